"""The browser of the end-to-end tests, and what it complained about while a test ran."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

import pytest
from playwright.async_api import ConsoleMessage, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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


def find_browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here (Debian, Ubuntu: apt-get install chromium)")
    return found
