"""Take the pictures under docs/images anew, from a real server and the shipped model.

Run `python tests/e2e/screenshots.py` and look at them.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from browser import find_browser
from host_page import EMBED_SECRET, HOST, HOST_PORT, serving
from playwright.async_api import Browser, Locator, Page, async_playwright, expect
from server_process import Server, free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "images"
CAT = ROOT / "bot" / "web" / "example-cat.jpg"
QUESTIONS = ("What is this?", "What color are its eyes?", "Is there a dog?")
SIZES = {"desktop": {"width": 1200, "height": 800}, "phone": {"width": 390, "height": 780}}
MORE = ("desktop-light", "phone-dark")  # the kinds of which everything is shown
SETTINGS = {"VISAVIS_ALLOWED_ORIGINS": HOST}
expect.set_options(timeout=60_000)


async def take_all(server: Server) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for size in SIZES:
                page = await open_page(browser, scheme, size)
                await take(page, server.base_url, f"{size}-{scheme}")
                await page.context.close()
        for kind in MORE:
            size, scheme = kind.split("-")
            page = await open_page(browser, scheme, size)
            await take_bubble(page, server.base_url, kind)
            await page.context.close()
        await browser.close()


async def open_page(browser: Browser, scheme: str, size: str) -> Page:
    phone = size == "phone"
    context = await browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": SIZES[size]["width"], "height": SIZES[size]["height"]},
        device_scale_factor=2 if phone else 1,
        has_touch=phone,
    )
    return await context.new_page()


async def take(page: Page, url: str, kind: str) -> None:
    """The empty page, a conversation about the cat, where the model looked; of some, pointing and the conversations."""
    await page.goto(url)
    await page.get_by_role("button", name="The cat").wait_for()
    await shoot(page, f"empty-{kind}")
    await page.get_by_role("button", name="The cat").click()
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
    for question in QUESTIONS:
        await ask(page, question)
    await shoot(page, f"conversation-{kind}")
    await page.get_by_role("button", name="Where did it look?").first.click()
    await page.locator(".heat").wait_for()
    await page.locator(".heat").scroll_into_view_if_needed()
    await shoot(page, f"heat-{kind}")
    if kind not in MORE:
        return
    await page.get_by_role("button", name="Open the picture").click()
    await drag(page, page.locator(".pointing img"))
    await shoot(page, f"pointing-{kind}")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Conversations").click()
    await page.locator(".entry").wait_for()
    await shoot(page, f"conversations-{kind}")


async def take_bubble(page: Page, chat: str, kind: str) -> None:
    """The widget in the shop of the example."""
    sys.path.append(str(ROOT / "docs" / "examples" / "embed"))
    from host import make_server

    with serving(make_server(chat, EMBED_SECRET, HOST_PORT)) as shop:
        await page.route("**/token", lambda route: route.fulfill(body="a-secret-that-this-visitor-has-made-up"))
        await page.goto(shop)
        await page.get_by_role("button", name="Open the chat").click()
        await page.locator("input[type=file]").first.set_input_files(CAT)
        await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
        await ask(page, QUESTIONS[0])
        await shoot(page, f"bubble-{kind}")


async def shoot(page: Page, name: str) -> None:
    await page.wait_for_timeout(300)  # transitions
    await page.screenshot(path=FOLDER / f"{name}.png")


async def ask(page: Page, question: str) -> None:
    await page.get_by_role("textbox", name="Message").fill(question)
    await page.get_by_role("textbox", name="Message").press("Enter")
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=120_000)
    await page.wait_for_timeout(300)


async def drag(page: Page, picture: Locator) -> None:
    """A box round one eye of the cat."""
    await picture.wait_for()
    await page.wait_for_timeout(300)
    area = await picture.bounding_box()
    assert area is not None
    for x, y, act in ((0.27, 0.22, page.mouse.down), (0.5, 0.58, page.mouse.up)):
        await page.mouse.move(area["x"] + area["width"] * x, area["y"] + area["height"] * y)
        await act()


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", free_port(), settings=SETTINGS)
        try:
            server.start()
            asyncio.run(take_all(server))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
