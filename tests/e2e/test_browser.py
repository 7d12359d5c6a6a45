"""The page in headless Chromium, against a real server and the shipped model."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from browser import ANSWER_TIMEOUT_MS, Complaints, ask, photo, pick
from playwright.async_api import Page, expect
from server_process import Server

pytestmark = pytest.mark.timeout(400)

DROP = """([name, type, content]) => {
  const files = new DataTransfer();
  files.items.add(new File([content], name, { type }));
  const chat = document.querySelector("visavis-chat");
  for (const kind of ["dragenter", "dragover", "drop"]) {
    chat.dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));
  }
}"""


async def said(page: Page) -> list[str]:
    return [text.strip() for text in await page.locator(".bubble, .said").all_inner_texts()]


async def test_a_conversation_survives_a_reload_and_a_restart(
    server: Server, page: Page, complaints: Complaints
) -> None:
    await pick(page, "cat.png", photo())
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
    first = await ask(page, "What is in this picture?")
    second = await ask(page, "What color is it?")
    assert first and second
    conversation = ["What is in this picture?", first, "What color is it?", second]
    assert await said(page) == conversation
    await expect(page.get_by_role("log")).to_contain_text(second)

    await page.reload()
    await expect(page.locator(".turn")).to_have_count(4)
    assert await said(page) == conversation
    await picture_is_shown(page)

    await asyncio.to_thread(server.restart)
    await page.reload()
    await expect(page.locator(".turn")).to_have_count(4)
    assert await said(page) == conversation
    await picture_is_shown(page)
    assert await ask(page, "Where is it?")
    complaints.forgive("WebSocket")  # the attempts to connect while there was no server


async def test_an_answer_shows_where_it_looked(page: Page) -> None:
    await pick(page, "cat.png", photo())
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
    answer = await ask(page, "What is in this picture?")
    await page.get_by_role("button", name="Where did it look?").click()
    words = page.get_by_role("toolbar", name="Words of the answer").get_by_role("button")
    await expect(words).to_have_count(1 + len(answer.split()), timeout=ANSWER_TIMEOUT_MS)
    assert (await words.all_inner_texts())[1:] == answer.split()
    whole = await veil(page)
    await words.nth(0).press("ArrowRight")
    await expect(words.nth(1)).to_be_focused()
    await expect(words.nth(1)).to_have_attribute("aria-pressed", "true")
    await expect(page.locator("figcaption")).to_contain_text(answer.split()[0])
    assert await veil(page) != whole

    await page.reload()  # an old answer can be explained as well
    await page.get_by_role("button", name="Where did it look?").click()
    await expect(page.locator(".heat canvas")).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    assert await veil(page) == whole


async def veil(page: Page) -> str:
    """The heat map that is shown, as a PNG; it is not empty."""
    empty_one = "Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height })"
    read = f"canvas => [canvas, {empty_one}].map(one => one.toDataURL())"
    drawn, empty = await page.locator(".heat canvas").evaluate(read)
    assert drawn != empty
    return str(drawn)


async def picture_is_shown(page: Page) -> None:
    picture = page.locator(".picture img")
    await expect(picture).to_have_js_property("naturalWidth", 480)


async def test_an_open_page_outlives_a_killed_server(server: Server, page: Page, complaints: Complaints) -> None:
    before = await ask(page, "Hello")
    await asyncio.to_thread(server.restart, signal.SIGKILL)
    after = await ask(page, "Hello again")
    assert await said(page) == ["Hello", before, "Hello again", after]
    complaints.forgive("WebSocket")


async def test_a_reload_in_mid_answer_loses_and_doubles_nothing(page: Page) -> None:
    await page.get_by_role("textbox").fill("Hello")
    await page.keyboard.press("Enter")
    await page.reload()
    await expect(page.locator(".said")).to_have_count(1)
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    shown = await said(page)
    assert shown[0] == "Hello" and shown[1]
    await page.reload()
    await expect(page.locator(".turn")).to_have_count(2)
    assert await said(page) == shown


@pytest.mark.parametrize("part", ["gateway", "store", pytest.param("model server", marks=pytest.mark.slow)])
async def test_a_killed_process_costs_no_answer(server: Server, page: Page, complaints: Complaints, part: str) -> None:
    await pick(page, "cat.png", photo())
    await page.get_by_role("textbox").fill("What is this?")
    await page.keyboard.press("Enter")
    await expect(page.locator(".answer")).to_be_visible()
    await asyncio.to_thread(server.kill, part)
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    await asyncio.to_thread(server.wait_until_ready)
    retry = page.get_by_role("button", name="Try again")
    for _ in range(5):
        # A model server that dies in mid-answer fails the turn aloud, and so does a store that dies before it has taken
        # the turn; it may be away for another moment.
        if not await retry.is_visible():
            break
        await asyncio.to_thread(server.wait_until_ready)
        await retry.click()
        await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    await expect(page.locator(".failure")).to_have_count(0)
    shown = await said(page)
    assert len(shown) == 2 and shown[1]
    complaints.forgive("WebSocket")
    complaints.forgive("Failed to load resource")


async def test_what_is_not_a_picture_is_refused_in_plain_words(page: Page, complaints: Complaints) -> None:
    notice = page.get_by_role("alert")
    await page.evaluate(DROP, ["notes.txt", "text/plain", "milk, eggs"])
    await expect(notice).to_contain_text("“\u2068notes.txt\u2069” is not a picture")
    await page.evaluate(DROP, ["broken.jpg", "image/jpeg", "milk, eggs"])
    await expect(notice).to_contain_text("could not be read as a picture")
    await expect(page.locator(".attachment")).to_have_count(0)
    complaints.forgive("Failed to load resource")  # the browser logs the refusal of broken.jpg


async def test_an_example_with_the_keyboard_alone_then_a_new_conversation(page: Page) -> None:
    await expect(page.get_by_role("textbox")).to_be_focused()
    await page.get_by_role("button", name="The cat").press("Enter")
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
    await expect(page.get_by_role("textbox")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".bubble")).to_have_text("Describe the picture.")
    await expect(page.get_by_role("log")).to_contain_text("visavis:", timeout=ANSWER_TIMEOUT_MS)
    await page.get_by_role("button", name="New conversation").press("Enter")
    await expect(page.get_by_role("heading", name="Show me a picture.")).to_be_visible()
    await expect(page.locator(".turn")).to_have_count(0)


async def test_stop_ends_the_answer_and_keeps_the_place(page: Page) -> None:
    await page.get_by_role("textbox").fill("Tell me about it")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    await expect(page.locator(".dots")).to_have_count(0)


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_nothing_sticks_out_sideways(page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 700})
    await pick(page, "cat.png", photo())
    await expect(page.locator(".attachment")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "element => element.shadowRoot.querySelector('.foot').scrollWidth - element.clientWidth"
    assert await page.locator("visavis-chat").evaluate(wide) <= 0


async def test_a_part_of_a_picture_can_be_pointed_at(page: Page) -> None:
    await pick(page, "cat.png", photo())
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
    await ask(page, "What is in this picture?")
    await page.get_by_role("button", name="Open the picture").click()
    shown = page.locator(".pointing img")
    await expect(page.get_by_role("button", name="Ask about this part")).to_be_disabled()
    area = await shown.bounding_box()
    assert area is not None
    await page.mouse.move(area["x"] + area["width"] * 0.5, area["y"] + area["height"] * 0.25)
    await page.mouse.down()
    await page.mouse.move(area["x"] + area["width"] * 0.75, area["y"] + area["height"] * 0.75)
    await page.mouse.up()
    await page.evaluate("""() => {
      window.sent = [];
      const send = WebSocket.prototype.send;
      WebSocket.prototype.send = function (data) { window.sent.push(data); return send.call(this, data); };
    }""")
    await page.get_by_role("button", name="Ask about this part").click()
    await expect(page.get_by_role("textbox")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".turn.answer")).to_have_count(2)
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible(timeout=ANSWER_TIMEOUT_MS)
    frames = [json.loads(data) for data in await page.evaluate("window.sent")]
    (turn,) = [frame for frame in frames if frame["type"] == "turn"]
    assert turn["text"] == "What is this?" and turn["images"] == []
    assert [round(turn["region"][side], 1) for side in "xywh"] == [0.5, 0.2, 0.2, 0.5]
    await page.reload()
    await expect(page.locator(".question canvas.cut-out")).to_have_count(1)


async def test_the_keyboard_points_as_well(page: Page) -> None:
    await pick(page, "cat.png", photo())
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()
    await ask(page, "What is in this picture?")
    await page.get_by_role("button", name="Open the picture").click()
    await page.locator(".pointing").focus()
    await page.keyboard.press("ArrowRight")
    before = await page.locator(".pointing .box").bounding_box()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Shift+ArrowDown")
    after = await page.locator(".pointing .box").bounding_box()
    assert before and after and after["x"] > before["x"] and after["height"] > before["height"]
    await page.keyboard.press("Enter")
    await expect(page.locator(".attachment.part")).to_be_visible()
    await page.get_by_role("button", name="Ask about the whole picture").click()
    await expect(page.locator(".attachment.part")).to_have_count(0)
