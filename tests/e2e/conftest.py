"""Real servers and a real browser for the end-to-end tests.

`server` is a running `visavis serve` with a data folder of its own, shared by the tests of one file; `page` is a page
of headless Chromium on which every script error, console error and policy violation fails the test. `chat` is such a
page of `gateway`, which runs in the test's own event loop and whose `model` says what the test wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from browser import Complaints, find_browser
from host_page import EMBED_SECRET, HOST
from playwright.async_api import BrowserContext, Page, async_playwright, expect
from running_gateway import running_gateway
from scripted_chat_model import ScriptedChatModel
from server_process import Server, free_port

from visavis.bot.embedded_store import EmbeddedStore, find_engine
from visavis.bot.settings import load_settings

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server of this test file."""
    running = Server(tmp_path_factory.mktemp("visavis") / "data", free_port())
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
async def page(server: Server, complaints: Complaints) -> AsyncIterator[Page]:
    """The page of the server in a fresh browser profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        opened = await browser.new_page()
        opened.set_default_timeout(60_000)
        complaints.listen_to(opened)
        await opened.goto(server.base_url)
        await opened.evaluate("customElements.whenDefined('visavis-chat')")  # what is dropped before that is lost
        yield opened
        await browser.close()
    assert complaints.heard == []


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("store")
    store = EmbeddedStore(find_engine(), folder, folder / "s.sock")
    asyncio.run(store.start())
    yield store.url
    asyncio.run(store.stop())


@pytest.fixture
def model() -> ScriptedChatModel:
    """What the test wants to be said."""
    return ScriptedChatModel()


@pytest.fixture
async def context() -> AsyncIterator[BrowserContext]:
    """A fresh browser profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        opened = await browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        opened.set_default_timeout(30_000)
        yield opened
        await browser.close()


@pytest.fixture
async def gateway(store_url: str, model: ScriptedChatModel) -> AsyncIterator[str]:
    """The address of a gateway in this event loop that answers by `model`."""
    async with running_gateway(load_settings(redis_url=store_url, drain_s=5), model) as url:
        yield url


@pytest.fixture
async def embedded(store_url: str, model: ScriptedChatModel) -> AsyncIterator[str]:
    """The same, but for visitors alone whom the page at `HOST` vouches for."""
    settings = load_settings(redis_url=store_url, drain_s=5, allowed_origins=HOST, embed_secret=EMBED_SECRET)
    async with running_gateway(settings, model) as url:
        yield url


@pytest.fixture
async def chat(gateway: str, context: BrowserContext, complaints: Complaints) -> AsyncIterator[Page]:
    """The page of `gateway`."""
    page = await context.new_page()
    complaints.listen_to(page)
    await page.goto(gateway)
    await page.get_by_role("textbox", name="Message").wait_for()
    yield page
    assert complaints.heard == []
