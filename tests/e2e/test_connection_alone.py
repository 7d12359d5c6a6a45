"""`connection.js` without the widget: the example of docs/embedding.md as it stands there, and how it comes back."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import Complaints, drawn_picture
from host_page import HOST, HOST_PORT, serving
from playwright.async_api import BrowserContext, Page, WebSocketRoute, expect
from running_gateway import running_gateway
from scripted_chat_model import ScriptedChatModel

from visavis.bot.settings import load_settings

DOCS = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")
POLICY = "default-src 'none'; script-src 'self' {0}; connect-src {0} {1}; img-src data:"
PAUSES = """window.pauses = [];
const real = window.setTimeout;
window.setTimeout = (act, pause) => {
  if (pause !== 20_000) pauses.push(pause); // but for the one that waits for the greeting
  return real(act, pause === 20_000 ? pause : 1);
};"""
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def open_gateway(store_url: str, model: ScriptedChatModel) -> AsyncIterator[str]:
    settings = load_settings(redis_url=store_url, drain_s=5, allowed_origins=HOST)
    async with running_gateway(settings, model) as url:
        yield url


@pytest.fixture
def example(open_gateway: str) -> Iterator[str]:
    """A page of another origin, under a strict policy, made of what the documentation shows."""
    section = DOCS.partition("## `connection.js` alone")[2]
    html, script = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL)[1] for kind in ("html", "js"))  # type: ignore[index]
    script = script.replace("https://chat.example.org", open_gateway)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_script = self.path == "/ask.js"
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
            self.send_header("Content-Security-Policy", POLICY.format(open_gateway, open_gateway.replace("http", "ws")))
            self.end_headers()
            self.wfile.write((script if is_script else f'<link rel="icon" href="data:,">{html}').encode())

        def log_message(self, format: str, *args: object) -> None: ...

    with serving(ThreadingHTTPServer(("127.0.0.1", HOST_PORT), Handler)) as address:
        yield address


async def ask(page: Page, question: str) -> None:
    await page.locator("[name=question]").fill(question)
    await page.get_by_role("button", name="Ask").click()


async def test_the_documented_example_works_as_it_stands(
    example: str, context: BrowserContext, model: ScriptedChatModel, complaints: Complaints
) -> None:
    page = await context.new_page()
    complaints.listen_to(page)
    await page.goto(example)
    picture = {"name": "ball.png", "mimeType": "image/png", "buffer": drawn_picture()}
    await page.locator("[name=picture]").set_input_files(picture)  # type: ignore[arg-type]
    await ask(page, "What is it?")
    await expect(page.locator("output")).to_have_text("a red square on white ")
    assert "image" in str(model.asked[0]) and "What is it?" in str(model.asked[0])
    assert complaints.heard == []
    await page.locator("[name=picture]").set_input_files(
        {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    )
    await ask(page, "And this?")
    await expect(page.locator("output")).to_contain_text("picture")
    assert len(model.asked) == 1
    await page.close()


async def test_a_reload_and_a_broken_line_cost_the_example_nothing(
    example: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    model.answer, model.pause_s = " ".join(f"word{number}" for number in range(40)), 0.1
    lines: list[WebSocketRoute] = []

    def take(line: WebSocketRoute) -> None:
        lines.append(line)
        line.connect_to_server()

    await context.route_web_socket("**/chat", take)
    page = await context.new_page()
    await page.goto(example)
    await ask(page, "Count")
    await expect(page.locator("output")).to_contain_text("word3 ")
    await lines[-1].close(code=1011)
    await expect(page.locator("output")).to_contain_text("word8 ")
    await page.reload()
    await expect(page.locator("output")).to_have_text(model.answer + " ")
    assert len(lines) >= 3 and len(model.asked) == 1
    await page.close()


async def test_pauses_grow_to_a_limit_and_differ_from_page_to_page(example: str, context: BrowserContext) -> None:
    """So that a server that comes back is not met by everybody in the same instant."""
    tries = 12

    async def refuse(line: WebSocketRoute) -> None:
        await line.close(code=1011)

    await context.route_web_socket("**/chat", refuse)
    await context.add_init_script(PAUSES)
    asked_for = []
    for _ in range(2):
        page = await context.new_page()
        await page.goto(example)
        while await page.evaluate("pauses.length") < tries:
            await page.wait_for_timeout(50)
        asked_for.append((await page.evaluate("pauses"))[:tries])
        await page.close()
    for pauses in asked_for:
        for number, pause in enumerate(pauses):
            longest = min(15_000, 400 * 2**number)
            assert longest / 2 <= pause <= longest, json.dumps(pauses)
    assert asked_for[0] != asked_for[1]
    assert len({round(pause) for pause in asked_for[0][-4:]}) > 1  # at the limit too
