"""The browser of the end-to-end tests, and what it complained about while a test ran."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.async_api import ConsoleMessage, FilePayload, Page, expect

ANSWER_TIMEOUT_MS = 120_000
EXAMPLE = Path(__file__).parents[2] / "bot" / "web" / "example-cat.jpg"
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


def drawn_picture() -> bytes:
    """A red ball on green grass under a blue sky."""
    picture = Image.new("RGB", (480, 360), "skyblue")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 220, 480, 360), fill="forestgreen")
    draw.ellipse((170, 120, 310, 260), fill="red")
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def photo() -> bytes:
    """A photo, which the shipped model talks about; of drawings it says that they are none."""
    with Image.open(EXAMPLE) as example:
        out = io.BytesIO()
        example.convert("RGB").resize((480, 360)).save(out, "PNG")
    return out.getvalue()


async def pick(page: Page, name: str, content: bytes) -> None:
    file: FilePayload = {"name": name, "mimeType": "image/png", "buffer": content}
    await page.locator("input[type=file]").first.set_input_files(file)


async def ask(page: Page, question: str) -> str:
    """Type, send with Enter, wait for the whole answer."""
    count = await page.locator(".answer").count()
    await page.get_by_role("textbox", name="Message").fill(question)
    await page.keyboard.press("Enter")
    await expect(page.locator(".answer")).to_have_count(count + 1)
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    await expect(page.locator(".failure")).to_have_count(0)
    return (await page.locator(".answer .said").nth(count).inner_text()).strip()
