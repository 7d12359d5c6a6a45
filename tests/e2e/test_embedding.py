"""The widget in pages of other origins: the repository's example, a page with a hostile style, one that scripts it."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest
from axe_playwright_python.async_playwright import Axe
from browser import Complaints, drawn_picture, pick
from host_page import EMBED_SECRET, HOST, HOST_PORT, serving
from playwright.async_api import BrowserContext, Page, expect
from scripted_chat_model import ScriptedChatModel

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "embed"
pytestmark = pytest.mark.timeout(240)

HOSTILE = """
  * { font-size: 5px !important; color: red !important; display: inline !important; border: 3px dashed lime !important;
      --text: red !important; --ground: red !important; --accent: red !important; --measure: 9px !important;
      letter-spacing: 9px !important; text-transform: uppercase !important; direction: ltr }
  button, textarea { display: none !important } html { font-size: 4px }
"""
LOOK = """() => {
  const root = document.querySelector("visavis-chat").shadowRoot;
  return [".title", ".composer textarea", ".composer .primary", ".welcome h2"].map((one) => {
    const look = getComputedStyle(root.querySelector(one));
    const keys = ["fontSize", "color", "display", "borderTopWidth", "letterSpacing", "textTransform"];
    return keys.map((key) => look[key]).join();
  });
}"""


@pytest.fixture
def shop(embedded: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example's host page, with the right secret."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from host import make_server

    with serving(make_server(embedded, EMBED_SECRET, HOST_PORT)) as address:
        yield address


@pytest.fixture
async def host(shop: str, context: BrowserContext, complaints: Complaints) -> AsyncIterator[Page]:
    page = await context.new_page()
    complaints.listen_to(page)
    await page.goto(shop)
    yield page
    assert complaints.heard == []


async def test_the_example_on_another_origin_under_a_strict_policy(host: Page) -> None:
    """Any violation of the shop's policy is a console error, and fails the test."""
    launcher = host.get_by_role("button", name="Open the chat")
    await launcher.press("Enter")
    field = host.get_by_role("textbox", name="Message")
    await expect(field).to_be_focused()
    await expect(host.get_by_role("heading", name="Which room shall it light?")).to_be_visible()
    await host.get_by_role("button", name="What is in this room?").click()
    picture = {"name": "room.png", "mimeType": "image/png", "buffer": drawn_picture()}
    await host.locator("input[type=file]").first.set_input_files(picture)  # type: ignore[arg-type]
    await expect(host.locator(".attachment[data-state=stored]")).to_be_visible()
    await field.press("Enter")
    await expect(host.locator("#answer")).to_have_text("a red square on white ")
    await expect(host.locator(".picture img")).to_have_js_property("naturalWidth", 480)
    results = await Axe().run(host)
    assert [one["id"] for one in results.response["violations"]] == []
    await field.press("Escape")
    await expect(launcher).to_be_focused()
    await expect(field).to_be_hidden()
    await host.reload()
    await host.get_by_role("button", name="What is in my photo?").click()
    await expect(host.locator(".said")).to_have_text("a red square on white ")
    await host.get_by_role("button", name="Open the picture").click()
    await host.locator(".pointing").press("ArrowDown")
    await host.keyboard.press("Delete")  # reads the picture's pixels across origins
    await expect(host.locator(".said")).to_have_count(2)


async def test_a_page_that_signs_with_another_secret_is_told_so_until_it_has_a_good_token(
    embedded: str, shop: str, context: BrowserContext
) -> None:
    page = await context.new_page()
    await page.route(
        "**/token", lambda route: route.fulfill(body=jwt.encode({"sub": "x"}, "another secret " * 4, "HS256"))
    )
    await page.goto(shop)
    await page.get_by_role("button", name="Open the chat").click()
    await expect(page.get_by_role("alert")).to_contain_text("not allowed to talk to the server")
    await page.unroute("**/token")
    fetch = "chat => { chat.token = async () => (await fetch('/token')).text(); }"
    await page.locator("visavis-chat").evaluate(fetch)
    await page.get_by_role("textbox", name="Message").fill("Who?")
    await page.keyboard.press("Enter")
    await expect(page.locator(".said")).to_have_text("a red square on white ")


@contextlib.asynccontextmanager
async def page_with(
    server: str,
    context: BrowserContext,
    attributes: str,
    *,
    style: str = "",
    words: str = "{}",
    page: Page | None = None,
) -> AsyncIterator[Page]:
    """A host page with the element, these attributes and this style; its words are at `/words.json`."""
    token = jwt.encode({"sub": "somebody", "origin": HOST, "exp": time.time() + 300}, EMBED_SECRET, "HS256")
    html = (
        f'<!doctype html><html lang="en"><title>t</title><link rel="icon" href="data:,"><style>{style}</style>'
        f'<script type="module" src="{server}/widget.js"></script>'
        f'<body><visavis-chat token="{token}" {attributes}></visavis-chat>'
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((words if self.path == "/words.json" else html).encode())

        def log_message(self, format: str, *args: object) -> None: ...

    with serving(ThreadingHTTPServer(("127.0.0.1", HOST_PORT), Handler)) as address:
        page = page or await context.new_page()
        await page.goto(address)
        await page.locator(".conversation").wait_for(state="attached")
        yield page
        await page.close()


@pytest.mark.parametrize("mode", ["inline", "bubble"])
async def test_the_host_page_s_style_stays_outside(embedded: str, context: BrowserContext, mode: str) -> None:
    looks = []
    for style in ("", HOSTILE):
        own = f'mode="{mode}" style="height: 600px; display: block !important; border: 0 !important"'
        async with page_with(embedded, context, own, style=style) as page:
            if mode == "bubble":
                await page.get_by_role("button", name="Open the chat").click()
            looks.append(await page.evaluate(LOOK))
    assert looks[0] == looks[1]


async def test_a_host_page_opens_asks_attaches_and_hears(
    embedded: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    async with page_with(embedded, context, 'explain="off" theme="dark"') as page:
        heard = await page.evaluate("""async () => {
          const chat = document.querySelector("visavis-chat"), heard = [];
          for (const name of ["open", "ready", "question", "answer", "close"]) {
            chat.addEventListener(`visavis:${name}`, ({ detail }) => heard.push([name, detail]));
          }
          const canvas = new OffscreenCanvas(40, 30);
          canvas.getContext("2d").fillRect(0, 0, 20, 20);
          const photo = new File([await canvas.convertToBlob()], "photo.png", { type: "image/png" });
          const answered = new Promise((resolve) => chat.addEventListener("visavis:answer", resolve));
          await chat.send("What is it?", [photo]);
          await answered;
          chat.close();
          return heard;
        }""")
        assert [name for name, _ in heard] == ["open", "ready", "question", "answer", "close"]
        answer = heard[3][1]
        assert answer["text"].strip() == model.answer and answer["confidence"] == 0.5 and len(answer["image"]) == 64
        await page.get_by_role("button", name="Open the chat").click()
        await expect(page.get_by_role("button", name="Copy the answer")).to_be_visible()
        await expect(page.get_by_role("button", name="Where did it look?")).to_have_count(0)
        assert await page.locator(".frame").evaluate("frame => getComputedStyle(frame).colorScheme") == "dark"


async def test_less_than_50_kb_come_over_the_line(embedded: str, context: BrowserContext) -> None:
    """All that a bubble loads, as it comes over the line, in a language of two files, up to the first answer."""
    page = await context.new_page()
    line = await context.new_cdp_session(page)
    loaded: dict[str, str] = {}
    weights: Counter[str] = Counter()
    line.on("Network.requestWillBeSent", lambda event: loaded.update({event["requestId"]: event["request"]["url"]}))
    line.on("Network.dataReceived", lambda event: weights.update({event["requestId"]: event["encodedDataLength"]}))
    await line.send("Network.enable")
    async with page_with(embedded, context, 'language="zh"', page=page):
        await page.locator(".launcher").click()
        await page.get_by_role("textbox").fill("Who?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".said")).to_have_text("a red square on white ")
    ours = {url.removeprefix(embedded): weights[id] for id, url in loaded.items() if url.startswith(embedded)}
    assert len(ours) > 15 and "/widget.css" in ours and "/strings.zh.json" in ours
    assert sum(ours.values()) < 50_000, ours


async def test_a_host_page_brings_its_own_words(embedded: str, context: BrowserContext) -> None:
    words = {"language": "ar", "direction": "rtl", "emptyTitle": "أرني صورة.", "send": "إرسال"}
    own = 'mode="inline" strings="/words.json" style="height: 500px"'
    async with page_with(embedded, context, own, words=json.dumps(words)) as page:
        await expect(page.get_by_role("heading", name="أرني صورة.")).to_be_visible()
        send = await page.get_by_role("button", name="إرسال").bounding_box()
        field = await page.get_by_role("textbox").bounding_box()
        assert send and field and send["x"] < field["x"]  # everything is mirrored
        await pick(page, "room.png", drawn_picture())
        await page.get_by_role("textbox").press("Enter")
        await page.get_by_role("button", name="Where did it look?").click()
        places = [await page.locator(".word").nth(number).bounding_box() for number in (1, 2)]
        assert places[0] and places[1] and places[0]["x"] < places[1]["x"]  # but for an English answer
