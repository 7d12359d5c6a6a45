"""What comes in: pictures over a slow line, by paste and by camera, and answers, for which nothing jumps."""

from __future__ import annotations

import io

import pytest
from browser import ask, drawn_picture, pick
from PIL import Image
from playwright.async_api import BrowserContext, Page, WebSocketRoute, expect
from scripted_chat_model import ScriptedChatModel

pytestmark = pytest.mark.timeout(240)

FORMATTED = """Two **very big** things and `one small`, see [this](https://example.org):

1. the *first* thing
2. the second thing

And then:

5. and a fifth one

| a | b |
| - | - |
| 1 | 2 |

```
x = "**"
```

The ~~last~~ end"""
SLOW = {"offline": False, "latency": 400, "downloadThroughput": 40_000, "uploadThroughput": 40_000}
PASTE = """([type, bytes]) => {
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([new Uint8Array(bytes)], "image.png", { type }));
  const focused = document.activeElement.shadowRoot?.activeElement ?? document.body;
  const reach = { bubbles: true, composed: true, cancelable: true };
  focused.dispatchEvent(new ClipboardEvent("paste", { clipboardData, ...reach }));
}"""
PROGRESS = """() => {
  window.shares = [];
  const root = document.querySelector("visavis-chat").shadowRoot;
  setInterval(() => root.querySelectorAll("progress:not([hidden])").forEach((bar) => shares.push(bar.value)), 50);
}"""
PLACES = """() => {
  window.places = [];
  const root = document.querySelector("visavis-chat").shadowRoot;
  const note = () => {
    const boxes = [...root.querySelectorAll(".bubble, .answer, .composer")].map((one) => one.getBoundingClientRect());
    places.push(boxes.map(({ left, top }) => `${left} ${top}`).join());
    requestAnimationFrame(note);
  };
  note();
}"""


GROWTH = """() => {
  window.seen = [];
  const root = document.querySelector("visavis-chat").shadowRoot;
  const note = () => {
    const said = root.querySelector(".answer .said");
    if (said && !said.querySelector(".waiting")) seen.push([said.innerText, said.offsetHeight]);
    requestAnimationFrame(note);
  };
  note();
}"""


async def slow_down(page: Page) -> None:
    line = await page.context.new_cdp_session(page)
    await line.send("Network.emulateNetworkConditions", SLOW)


async def test_a_question_waits_for_its_picture_on_a_slow_line(
    gateway: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    page = await context.new_page()
    await slow_down(page)
    await page.goto(gateway)
    await page.get_by_role("textbox", name="Message").wait_for()
    photo = io.BytesIO()
    Image.effect_noise((500, 400), 90).convert("RGB").save(photo, "PNG")  # about half a megabyte
    await page.evaluate(PROGRESS)
    await pick(page, "noise.png", photo.getvalue())
    await page.get_by_role("textbox", name="Message").fill("What is this?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("textbox", name="Message")).to_have_value("What is this?")  # not sent yet
    await expect(page.locator(".said")).to_have_text("a red square on white ", timeout=60_000)
    assert any(0 < share < 1 for share in await page.evaluate("shares"))
    asked = [str(one) for one in model.asked if "What is this?" in str(one)]  # and for a description
    assert len(asked) == 1 and "image" in asked[0]


async def test_nothing_moves_while_an_answer_comes_in(chat: Page, model: ScriptedChatModel) -> None:
    await pick(chat, "ball.png", drawn_picture())
    model.answer = "a black cat"
    await ask(chat, "What is this?")
    model.answer, model.pause_s = "a black dog", 0.5
    await chat.set_viewport_size({"width": 900, "height": 500})  # less than the conversation, which follows its end
    await chat.get_by_role("textbox", name="Message").fill("And now?")
    await chat.keyboard.press("Enter")
    await chat.locator(".answer").nth(1).wait_for()
    await chat.evaluate(PLACES)
    await expect(chat.get_by_role("button", name="Copy the answer")).to_have_count(2)
    places = await chat.evaluate("places")
    assert len(places) > 3 and len(set(places)) == 1, set(places)


async def test_an_answer_is_formatted_while_it_comes_in(chat: Page, model: ScriptedChatModel) -> None:
    """No marker is ever seen, and the answer only grows: what comes at its end has the room that it had before."""
    model.answer, model.pause_s = FORMATTED, 0.06
    await chat.evaluate(GROWTH)
    await chat.get_by_role("textbox", name="Message").fill("Which?")
    await chat.keyboard.press("Enter")
    await expect(chat.locator(".said strong")).to_have_text("very big")
    await expect(chat.get_by_role("button", name="Stop answering")).to_be_visible()
    await expect(chat.get_by_role("button", name="Copy the answer")).to_be_visible()
    seen = await chat.evaluate("seen")
    assert len({text for text, _ in seen}) > 10
    assert not [
        text for text, _ in seen if any(marker in text.replace('"**"', "") for marker in ("**", "`", "~", "|", "]("))
    ]
    heights = [height for _, height in seen]
    assert heights == sorted(heights)
    assert await chat.locator(".said ol").nth(1).get_attribute("start") == "5"


async def test_blocks_of_an_answer_keep_their_order_over_a_broken_line_and_a_reload(
    gateway: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    model.answer, model.pause_s = "\n\n".join(f"**part {number}** of it" for number in range(40)), 0.05
    lines: list[WebSocketRoute] = []

    def take(line: WebSocketRoute) -> None:
        lines.append(line)
        line.connect_to_server()

    async def shown(count: int) -> None:
        await expect(parts.nth(count - 1)).to_be_visible()
        texts = await parts.all_inner_texts()
        assert texts[:-1] == [f"part {number}" for number in range(len(texts) - 1)]  # the last one may be half there
        assert await page.locator(".said > p").count() in (len(texts), len(texts) + 1)

    await context.route_web_socket("**/chat", take)
    page = await context.new_page()
    parts = page.locator(".said strong")
    await page.goto(gateway)
    await page.get_by_role("textbox", name="Message").fill("Which?")
    await page.keyboard.press("Enter")
    await shown(3)
    await lines[-1].close(code=1011)
    await shown(9)
    await page.reload()
    await shown(15)
    await expect(parts.nth(39)).to_have_text("part 39")
    await shown(40)
    assert len(model.asked) == 1


async def test_what_was_stopped_is_formatted_too(chat: Page, model: ScriptedChatModel) -> None:
    model.answer, model.pause_s = "a **red** ball " * 200, 0.05
    await chat.get_by_role("textbox", name="Message").fill("Which?")
    await chat.keyboard.press("Enter")
    await expect(chat.locator(".said strong").first).to_be_visible()
    await chat.get_by_role("button", name="Stop answering").click()
    for _ in range(2):
        await expect(chat.get_by_text("Stopped")).to_be_visible()
        await expect(chat.locator(".said strong").first).to_have_text("red")
        await chat.reload()


async def test_a_picture_is_pasted(chat: Page) -> None:
    await chat.evaluate(PASTE, ["image/png", list(drawn_picture())])
    await expect(chat.locator(".attachment[data-state=stored]")).to_have_count(1)
    await ask(chat, "What is this?")
    await expect(chat.locator(".picture img")).to_have_js_property("naturalWidth", 480)
    await chat.evaluate(PASTE, ["text/plain", [65]])
    await expect(chat.get_by_role("alert")).to_contain_text("is not a picture")


async def test_fingers_get_a_camera(gateway: str, context: BrowserContext) -> None:
    browser = context.browser
    assert browser is not None
    phone = await browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740})
    page = await phone.new_page()
    await page.goto(gateway)
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Take a photo").tap()
    assert await (await chooser.value).element.get_attribute("capture") == "environment"
    await phone.close()
