"""Real servers and a real browser for the end-to-end tests.

`server` is a running `visavis serve` with a data folder of its own, shared by the tests of one file; `page` is a page
of headless Chromium on which every script error, console error and policy violation fails the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from browser import Complaints, find_browser
from playwright.async_api import Page, async_playwright
from server_process import Server, free_port


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
