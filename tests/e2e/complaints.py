"""What a browser complained about while a test ran."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.async_api import ConsoleMessage, Page


@dataclass
class Complaints:
    """What the browser complained about; a test forgives what it provokes on purpose."""

    heard: list[str] = field(default_factory=list)

    def listen_to(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.heard.append(f"error: {error}"))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.heard.append(f"{message.type}: {message.text}")

    def forgive(self, words: str) -> None:
        """Drop the complaints with these words in them."""
        self.heard = [complaint for complaint in self.heard if words not in complaint]
