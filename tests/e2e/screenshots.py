"""Take the pictures under docs/images anew, from a real server and the shipped model.

Run `python tests/e2e/screenshots.py` and look at them.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from browser import find_browser
from playwright.async_api import Browser, Page, async_playwright, expect
from server_process import Server, free_port

FOLDER = Path(__file__).parents[2] / "docs" / "images"
QUESTIONS = ("What is in this picture?", "What color are its eyes?", "Is there a dog?")
SIZES = {"desktop": {"width": 1200, "height": 800}, "phone": {"width": 390, "height": 780}}


async def take_all(server: Server) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for size in SIZES:
                await take(browser, server.base_url, scheme, size)
        await browser.close()


async def take(browser: Browser, url: str, scheme: str, size: str) -> None:
    """The empty page, then a conversation about the cat."""
    phone = size == "phone"
    context = await browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": SIZES[size]["width"], "height": SIZES[size]["height"]},
        device_scale_factor=2 if phone else 1,
        has_touch=phone,
    )
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("button", name="The cat").wait_for()
    await page.screenshot(path=FOLDER / f"empty-{size}-{scheme}.png")
    await page.get_by_role("button", name="The cat").click()
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
    for question in QUESTIONS:
        await ask(page, question)
    await page.screenshot(path=FOLDER / f"conversation-{size}-{scheme}.png")
    await page.get_by_role("button", name="Where did it look?").first.click()
    await page.locator(".heat").wait_for()
    await page.locator(".heat").scroll_into_view_if_needed()
    await page.wait_for_timeout(300)
    await page.screenshot(path=FOLDER / f"heat-{size}-{scheme}.png")
    await context.close()


async def ask(page: Page, question: str) -> None:
    await page.get_by_role("textbox").fill(question)
    await page.get_by_role("textbox").press("Enter")
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=120_000)
    await page.wait_for_timeout(300)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", free_port())
        try:
            server.start()
            asyncio.run(take_all(server))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
