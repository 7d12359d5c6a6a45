"""Deep Chat, a component that nobody here wrote, through our `connection.js` and through the OpenAI-compatible API.

`npm install --no-save deep-chat` brings it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import drawn_picture
from host_page import HOST, HOST_PORT, serving
from playwright.async_api import BrowserContext, Page, expect
from running_gateway import running_gateway
from scripted_chat_model import ScriptedChatModel

from visavis.bot.settings import load_settings

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not (ROOT / "node_modules" / "deep-chat").exists(), reason="no Deep Chat here (npm install --no-save deep-chat)"
    ),
]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
async def open_gateway(store_url: str, model: ScriptedChatModel) -> AsyncIterator[str]:
    """A gateway that the page at `HOST` may use without a token."""
    settings = load_settings(redis_url=store_url, drain_s=5, allowed_origins=HOST)
    async with running_gateway(settings, model) as url:
        yield url


@pytest.fixture
def pages() -> Iterator[str]:
    """The repository's files at `HOST`."""
    with serving(ThreadingHTTPServer(("127.0.0.1", HOST_PORT), partial(QuietHandler, directory=str(ROOT)))) as address:
        yield f"{address}/docs/examples/deep-chat"


async def ask_about_a_picture(page: Page, model: ScriptedChatModel) -> None:
    field = page.locator("deep-chat #text-input")
    picture = {"name": "ball.png", "mimeType": "image/png", "buffer": drawn_picture()}
    async with page.expect_file_chooser() as chooser:
        await page.locator("deep-chat #upload-images-icon").click()
    await (await chooser.value).set_files(picture)  # type: ignore[arg-type]
    # the file is read after it is chosen: a question sent before would go without it
    await expect(page.locator("deep-chat .image-attachment")).to_be_visible()
    await field.fill("What is it?")
    await field.press("Enter")
    await expect(page.get_by_text("a red square on white")).to_be_visible()
    assert "image" in str(model.asked[0]) and "What is it?" in str(model.asked[0])


async def test_deep_chat_on_the_openai_api(
    open_gateway: str, pages: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    page = await context.new_page()
    await page.goto(f"{pages}/openai.html?chat={open_gateway}")
    await ask_about_a_picture(page, model)
    await page.close()


async def test_deep_chat_on_our_connection_also_stops(
    open_gateway: str, pages: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    page = await context.new_page()
    await page.goto(f"{pages}/?chat={open_gateway}")
    await ask_about_a_picture(page, model)
    field = page.locator("deep-chat #text-input")
    model.answer, model.pause_s = " ".join(["again"] * 500), 0.05
    await field.fill("And then?")
    await field.press("Enter")
    await expect(page.get_by_text("again again again")).to_be_visible()
    await page.locator("deep-chat .stop-icon, deep-chat #stop-icon").first.click()
    model.pause_s, model.answer = 0, "something else"
    await field.fill("Now?")
    await field.press("Enter")
    await expect(page.get_by_text("something else")).to_be_visible()
    await page.close()
