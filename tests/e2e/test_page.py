"""What the page can do, in headless Chromium, with a model that says what a test wants."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from browser import Complaints, ask, drawn_picture, pick
from PIL import Image
from playwright.async_api import BrowserContext, Page, WebSocketRoute, expect
from running_gateway import running_gateway
from scripted_chat_model import ScriptedChatModel

from visavis.bot.settings import load_settings
from visavis.models.errors import ModelError

pytestmark = pytest.mark.timeout(240)

EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
SPY = """() => {
  window.sent = [];
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) { window.sent.push(data); return send.call(this, data); };
}"""


async def said(page: Page) -> list[str]:
    return [text.strip() for text in await page.locator(".bubble, .said").all_inner_texts()]


async def answered(page: Page) -> None:
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


async def show_ball(page: Page) -> None:
    await pick(page, "ball.png", drawn_picture())
    await expect(page.locator(".attachment[data-state=stored]")).to_be_visible()


async def test_another_answer_stands_beside_the_first(chat: Page, model: ScriptedChatModel) -> None:
    await ask(chat, "Who?")
    await ask(chat, "Where?")
    model.answer = "somebody else"
    await chat.get_by_role("button", name="Answer again").first.click()
    await expect(chat.get_by_text("2 of 2")).to_be_visible()
    assert await said(chat) == ["Who?", "somebody else"]
    await chat.get_by_role("button", name="Earlier version").press("Enter")
    await expect(chat.locator(".answer")).to_have_count(2)  # what came after it comes back with it
    assert await said(chat) == ["Who?", "a red square on white", "Where?", "a red square on white"]
    await expect(chat.get_by_role("button", name="Later version")).to_be_focused()
    await chat.reload()
    await expect(chat.get_by_text("1 of 2")).to_be_visible()


async def test_a_question_is_edited_and_asked_again_with_its_picture(chat: Page, model: ScriptedChatModel) -> None:
    await show_ball(chat)
    await ask(chat, "What is this?")
    model.answer = "green grass"
    await chat.get_by_role("button", name="Edit the question").click()
    field = chat.get_by_role("textbox", name="Question")
    await field.press("Escape")
    await expect(chat.get_by_role("button", name="Edit the question")).to_be_focused()
    await chat.get_by_role("button", name="Edit the question").click()
    await field.fill("What is below?")
    await field.press("Enter")
    await expect(chat.get_by_text("2 of 2")).to_be_visible()
    assert await said(chat) == ["What is below?", "green grass"]
    await expect(chat.locator(".picture img")).to_have_js_property("naturalWidth", 480)
    assert "image" in str(model.asked[-1])


async def test_thumbs_are_kept_and_consent_is_asked_apart(chat: Page) -> None:
    await ask(chat, "Who?")
    await chat.evaluate(SPY)
    await chat.get_by_role("button", name="Good answer").click()
    tick = chat.get_by_label("may be used to train")
    await expect(tick).not_to_be_checked()
    await tick.check()
    await expect(tick).to_be_checked()
    frames = [json.loads(frame) for frame in await chat.evaluate("window.sent")]
    assert [(frame["score"], frame["consent"]) for frame in frames] == [(1, False), (1, True)]
    await chat.reload()
    await expect(chat.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    await expect(tick).to_be_checked()
    await chat.get_by_role("button", name="Good answer").click()
    await expect(tick).to_have_count(0)


async def test_an_answer_is_copied_as_it_was_written(chat: Page, model: ScriptedChatModel) -> None:
    model.answer = "a **red** square"
    await ask(chat, "Who?")
    assert (await said(chat))[1] == "a red square"
    await chat.get_by_role("button", name="Copy the answer").click()
    await expect(chat.get_by_role("status").filter(has_text="Copied")).to_have_count(1)
    assert (await chat.evaluate("navigator.clipboard.readText()")).strip() == "a **red** square"


async def test_a_failed_answer_is_tried_again_in_its_place(chat: Page, model: ScriptedChatModel) -> None:
    model.error = ModelError("no")
    await chat.get_by_role("textbox", name="Message").fill("Who?")
    await chat.keyboard.press("Enter")
    await expect(chat.get_by_role("alert").filter(has_text="Something went wrong")).to_be_visible()
    model.error = None
    await chat.get_by_role("button", name="Try again").click()
    await answered(chat)
    await expect(chat.locator(".said")).to_have_text("a red square on white")
    await chat.reload()
    await expect(chat.locator(".answer")).to_have_count(1)
    assert await said(chat) == ["Who?", "a red square on white"]


async def test_an_unsure_answer_says_so(chat: Page, model: ScriptedChatModel) -> None:
    await ask(chat, "Who?")
    await expect(chat.get_by_text("not sure about this")).to_have_count(0)
    model.confidence = 0.1
    await ask(chat, "Who?")
    await expect(chat.get_by_text("not sure about this")).to_have_count(1)
    await chat.reload()
    await expect(chat.get_by_text("not sure about this")).to_have_count(1)


async def test_conversations_are_found_named_opened_and_deleted(chat: Page) -> None:
    await ask(chat, "Where is the red ball?")
    await chat.get_by_role("button", name="New conversation").click()
    await expect(chat.locator(".answer")).to_have_count(0)
    await ask(chat, "Who is that?")
    entries = chat.locator(".entry span")
    await chat.get_by_role("button", name="Conversations").click()
    await expect(entries).to_have_text(["Who is that?", "Where is the red ball?"])
    await chat.get_by_role("searchbox").fill("BALL")
    await expect(entries).to_have_text(["Where is the red ball?"])
    await chat.get_by_role("searchbox").fill("nothing like it")
    await expect(chat.get_by_text("No conversation found.")).to_be_visible()
    await chat.get_by_role("searchbox").fill("")
    await chat.get_by_role("button", name="Name of this conversation").click()
    await chat.get_by_role("textbox", name="Name of this conversation").fill(EVIL[:80])
    await chat.keyboard.press("Enter")
    await expect(entries.first).to_have_text(EVIL[:80])
    await chat.get_by_role("button", name="Where is the red ball?").click()
    await expect(chat.locator(".bubble")).to_have_text("Where is the red ball?")
    await chat.get_by_role("button", name="Conversations").click()
    await chat.get_by_role("button", name="Delete this one").click()
    await chat.get_by_role("button", name="Really delete it?").click()
    await expect(chat.get_by_role("heading", name="Show me a picture.")).to_be_visible()
    await chat.get_by_role("button", name="Conversations").click()
    await expect(entries).to_have_text([EVIL[:80]])


async def test_a_conversation_is_saved_as_one_file(chat: Page, tmp_path: Path, context: BrowserContext) -> None:
    await show_ball(chat)
    await ask(chat, f"What is this? {EVIL}")
    await chat.get_by_role("button", name="Conversations").click()
    async with chat.expect_download() as download:
        await chat.get_by_role("button", name="Save as a file").click()
    file = tmp_path / "saved.html"
    await (await download.value).save_as(file)
    assert not re.search(r"<script|<img[^>]*onerror|https?:", file.read_text())
    saved = await context.new_page()
    await saved.goto(file.as_uri())
    await expect(saved.locator("img")).to_have_js_property("naturalWidth", 480)
    await expect(saved.locator("body")).to_contain_text(EVIL)
    await expect(saved.locator("body")).to_contain_text("a red square on white")
    assert await saved.title() == "Conversation"


async def test_two_tabs_show_the_same_once(chat: Page, context: BrowserContext, model: ScriptedChatModel) -> None:
    await ask(chat, "Who?")
    other = await context.new_page()
    await other.goto(chat.url)
    await expect(other.locator(".answer")).to_have_count(1)
    model.pause_s = 0.05
    await ask(chat, "Where?")
    for tab in (chat, other):
        await answered(tab)
        await expect(tab.locator(".said")).to_have_text(["a red square on white"] * 2)
    assert len(model.asked) == 2
    model.pause_s = 0
    await other.get_by_role("button", name="Answer again").last.click()
    for tab in (other, chat):
        await expect(tab.get_by_text("2 of 2")).to_be_visible()
    await other.get_by_role("button", name="Earlier version").click()
    await expect(chat.get_by_text("1 of 2")).to_be_visible()
    await other.get_by_role("button", name="New conversation").click()
    await expect(other.locator(".answer")).to_have_count(0)
    assert len(await said(chat)) == 4


async def test_a_line_that_breaks_in_mid_answer_loses_and_doubles_nothing(
    gateway: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    model.answer, model.pause_s = " ".join(f"word{number}" for number in range(60)), 0.1
    lines: list[WebSocketRoute] = []
    closing: list[asyncio.Future[None]] = []

    def take(line: WebSocketRoute) -> None:
        lines.append(line)
        server = line.connect_to_server()
        heard = 0

        def deliver(message: str | bytes) -> None:
            nonlocal heard
            heard += json.loads(message)["type"] == "turn.delta"
            if len(lines) == 4 or heard < 2:
                line.send(message)
            elif heard == 2:  # the line breaks, and the rest is not heard
                closing.append(asyncio.ensure_future(line.close(code=1011)))

        server.on_message(deliver)

    await context.route_web_socket("**/chat", take)
    page = await context.new_page()
    await page.goto(gateway)
    await page.get_by_role("textbox", name="Message").fill("Count")
    await page.keyboard.press("Enter")
    await expect(page.locator(".said")).to_have_text(model.answer, timeout=60_000)
    await answered(page)
    assert len(lines) > 2 and len(model.asked) == 1
    await page.reload()
    await expect(page.locator(".said")).to_have_text([model.answer])


async def test_offline_is_said_and_what_was_asked_meanwhile_is_answered_after(
    gateway: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    reachable = True

    async def take(line: WebSocketRoute) -> None:
        if reachable:
            line.connect_to_server()
            lines.append(line)
        else:
            await line.close(code=1011)

    lines: list[WebSocketRoute] = []
    await context.route_web_socket("**/chat", take)
    page = await context.new_page()
    await page.goto(gateway)
    await ask(page, "Who?")
    reachable = False
    await lines[-1].close(code=1011)
    await expect(page.get_by_role("status").filter(has_text="No connection")).to_be_visible()
    await page.get_by_role("textbox", name="Message").fill("Where?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Sending")).to_be_visible()
    await page.get_by_role("button", name="Try now").click()
    reachable = True
    await expect(page.locator(".said")).to_have_text(["a red square on white"] * 2)
    await expect(page.get_by_text("No connection")).to_have_count(0)
    assert len(model.asked) == 2


async def test_suggested_questions_are_asked_with_one_press(gateway: str, context: BrowserContext) -> None:
    def take(line: WebSocketRoute) -> None:
        def deliver(message: str | bytes) -> None:
            frame = json.loads(message)
            line.send(json.dumps(frame | {"suggestions": [EVIL, "Where?"]} if "suggestions" in frame else frame))

        line.connect_to_server().on_message(deliver)

    await context.route_web_socket("**/chat", take)
    page = await context.new_page()
    await page.goto(gateway)
    await ask(page, "Who?")
    suggested = page.get_by_role("group", name="Suggested questions").get_by_role("button")
    await expect(suggested).to_have_text([EVIL, "Where?"])
    await page.get_by_role("textbox", name="Message").fill("Something else")
    await suggested.last.click()
    await expect(page.locator(".bubble")).to_have_text(["Who?", "Where?"])
    await expect(page.locator(".answer")).to_have_count(2)
    await expect(page.get_by_role("textbox", name="Message")).to_have_value("Something else")


async def test_what_an_answer_leaves_open_is_suggested(chat: Page, model: ScriptedChatModel) -> None:
    model.answer = "a black cat"
    await show_ball(chat)
    await ask(chat, "What is this?")
    suggested = chat.get_by_role("group", name="Suggested questions").get_by_role("button")
    open_ones = ["What is the cat doing?", "Where was this taken?", "Is there a person in the picture?"]
    await expect(suggested).to_have_text(open_ones)
    await chat.reload()
    await expect(suggested).to_have_text(open_ones)
    await suggested.first.click()
    await expect(suggested).to_have_text(open_ones[1:])
    await show_ball(chat)
    await expect(suggested.first).to_be_hidden()  # they are about the picture before


async def test_who_answers_is_chosen_where_the_operator_offers_several(gateway: str, context: BrowserContext) -> None:
    far = "somebody's far-away model"
    cards = [
        {"name": "visavis-embedded", "pictures": True, "remote": False},
        {"name": far, "pictures": False, "remote": True},
    ]
    sent: list[dict[str, object]] = []

    def take(line: WebSocketRoute) -> None:
        """The server here has one model, so it is told of none."""
        server = line.connect_to_server()

        def deliver(message: str | bytes) -> None:
            frame = json.loads(message)
            line.send(json.dumps(frame | {"models": cards} if frame["type"] == "ready" else frame))

        def forward(message: str | bytes) -> None:
            sent.append(json.loads(message))
            server.send(json.dumps({key: value for key, value in sent[-1].items() if key != "model"}))

        server.on_message(deliver)
        line.on_message(forward)

    await context.route_web_socket("**/chat", take)
    page = await context.new_page()
    await page.goto(gateway)
    choice = page.get_by_role("combobox", name="Model that answers")
    await expect(choice).to_have_value("visavis-embedded")
    await ask(page, "Who?")
    await choice.select_option(far)
    await expect(page.get_by_text("sent to it over the network. It sees no pictures.")).to_be_visible()
    await page.reload()
    await expect(choice).to_have_value(far)
    await page.get_by_role("button", name="Answer again").click()
    await expect(page.get_by_text("2 of 2")).to_be_visible()
    asked = [(frame["type"], frame.get("model")) for frame in sent if frame["type"] in ("turn", "regenerate")]
    assert asked == [("turn", None), ("regenerate", far)]
    results = await Axe().run(page)
    assert [one["id"] for one in results.response["violations"]] == []


async def test_the_assistant_is_whom_the_operator_lets_it_be(
    store_url: str, context: BrowserContext, model: ScriptedChatModel
) -> None:
    settings = load_settings(redis_url=store_url, drain_s=5, assistant_name="Ada", greeting="Which bird is it?")
    async with running_gateway(settings, model) as url:
        page = await context.new_page()
        await page.goto(url)
        await expect(page.get_by_role("heading", name="Ada", exact=True)).to_be_visible()
        await expect(page.get_by_role("heading", name="Which bird is it?")).to_be_visible()
        await ask(page, "Who?")
        await expect(page.get_by_role("log")).to_contain_text("Ada: a red square")
        await page.close()


def never_seen_picture() -> bytes:
    """One whose description no earlier test has left in the store."""
    data = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(data, "PNG")
    return data.getvalue()


async def test_hostile_words_stay_words(chat: Page, model: ScriptedChatModel, complaints: Complaints) -> None:
    model.answer = f"{EVIL} [a](javascript:alert(1)) ![b](https://evil.example/leak?q) **fine**"
    picture = {"name": f"{EVIL[:40]}.png", "mimeType": "image/png", "buffer": never_seen_picture()}
    await chat.locator("input[type=file]").first.set_input_files(picture)  # type: ignore[arg-type]
    await expect(chat.locator(".attachment[data-state=stored]")).to_be_visible()
    await ask(chat, EVIL)
    await expect(chat.get_by_role("img", name=EVIL)).to_be_visible()  # what the model says that the picture shows
    await chat.get_by_role("button", name="Where did it look?").click()
    await expect(chat.locator(".word").nth(1)).to_have_text("<img")
    await chat.reload()
    await expect(chat.locator(".bubble")).to_have_text(EVIL)
    await expect(chat.locator(".said strong")).to_have_text("fine")
    assert await chat.locator(".said img, .said script, .said [onerror], .said a[href^=javascript]").count() == 0
    assert await chat.title() == "visavis"


async def test_only_what_a_model_said_can_be_explained(chat: Page, model: ScriptedChatModel) -> None:
    model.confidence = None  # as of replies that no model had a part in
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": never_seen_picture()}
    await chat.locator("input[type=file]").first.set_input_files(picture)  # type: ignore[arg-type]
    await expect(chat.locator(".attachment[data-state=stored]")).to_be_visible()
    await ask(chat, "Hello!")
    why = chat.get_by_role("button", name="Where did it look?")
    await expect(why).to_have_count(0)
    model.confidence = 0.9
    await ask(chat, "What is it?")
    await expect(why).to_have_count(1)


async def test_a_large_photo_is_sent_smaller_and_upright(chat: Page) -> None:
    photo = Image.effect_noise((3000, 2000), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    data = io.BytesIO()
    photo.save(data, "JPEG", quality=95, exif=exif)
    async with chat.expect_request("**/v1/images") as request, chat.expect_response("**/v1/images") as response:
        await pick(chat, "large.jpg", data.getvalue())
    stored = await (await response.value).json()
    assert stored["height"] == 1024 and stored["width"] == 683
    sent = (await request.value).post_data_buffer
    assert sent is None or len(sent) < len(data.getvalue()) / 2  # the browser may not tell a blob's bytes
    await expect(chat.locator(".attachment[data-state=stored]")).to_be_visible()


async def test_an_upload_is_cancelled_tried_again_and_refused_in_plain_words(
    chat: Page, complaints: Complaints
) -> None:
    await chat.route("**/v1/images", lambda route: route.abort())
    await pick(chat, "ball.png", drawn_picture())
    await expect(chat.get_by_role("alert")).to_contain_text("did not get through")
    await chat.unroute("**/v1/images")
    await chat.get_by_role("button", name="Try the upload of ball.png again").click()
    await expect(chat.locator(".attachment[data-state=stored]")).to_be_visible()
    await chat.get_by_role("button", name="Remove ball.png").click()
    await chat.route("**/v1/images", lambda route: None)  # hangs
    await pick(chat, "slow.png", drawn_picture())
    await expect(chat.get_by_role("progressbar")).to_be_visible()
    await chat.get_by_role("button", name="Cancel the upload of slow.png").click()
    await expect(chat.locator(".attachment")).to_have_count(0)
    complaints.forgive("Failed to load resource")


async def test_several_pictures_and_which_one_was_looked_at(chat: Page) -> None:
    files = [{"name": f"{n}.png", "mimeType": "image/png", "buffer": drawn_picture()} for n in range(10)]
    await chat.locator("input[type=file]").first.set_input_files(files)  # type: ignore[arg-type]
    await expect(chat.locator(".attachment")).to_have_count(8)
    await expect(chat.get_by_role("alert")).to_contain_text("8 pictures at a time")
    for _ in range(7):
        await chat.get_by_role("button", name="Remove").last.click()
    await ask(chat, "What is this?")
    await expect(chat.get_by_text("The picture it looked at")).to_have_count(0)
    other = io.BytesIO()
    Image.new("RGB", (50, 50), "navy").save(other, "PNG")
    await pick(chat, "blue.png", other.getvalue())
    await ask(chat, "And this?")
    await chat.reload()
    await expect(chat.get_by_role("button", name="The picture it looked at")).to_have_count(1)
    await chat.get_by_role("button", name="The picture it looked at").click()
    await expect(chat.get_by_role("dialog", name="Picture").locator("img")).to_have_js_property("naturalWidth", 50)


async def test_a_part_is_covered_and_the_question_asked_again(chat: Page, model: ScriptedChatModel) -> None:
    await show_ball(chat)
    await ask(chat, "What is in it?")
    model.answer = "grass and sky"
    await chat.get_by_role("button", name="Open the picture").click()
    await chat.get_by_role("dialog").locator(".pointing").focus()
    await chat.keyboard.press("ArrowDown")
    await chat.keyboard.press("Delete")
    await expect(chat.locator(".said")).to_have_text(["a red square on white", "grass and sky"])
    assert (await said(chat))[2] == "What is in it?"
    shown = chat.locator(".question img").last
    middle = """image => {
      const canvas = new OffscreenCanvas(1, 1).getContext("2d");
      canvas.drawImage(image, -image.naturalWidth / 2, -image.naturalHeight / 2);
      return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
    }"""
    await expect(shown).to_have_js_property("naturalWidth", 480)
    red, green, blue = await shown.evaluate(middle)
    assert max(red, green, blue) - min(red, green, blue) < 40  # the ball was red


async def test_a_picture_is_told_in_words_to_those_who_cannot_see_it(chat: Page) -> None:
    await show_ball(chat)
    await ask(chat, "What is in it?")
    await expect(chat.get_by_role("img", name="Picture you sent: a red square on white")).to_be_visible()
    await chat.reload()
    await expect(chat.get_by_role("img", name="Picture you sent: a red square on white")).to_be_visible()


async def test_a_picture_is_zoomed_with_keys_and_buttons(chat: Page) -> None:
    await show_ball(chat)
    await ask(chat, "What is in it?")
    await chat.get_by_role("button", name="Open the picture").click()
    picture = chat.get_by_role("dialog").locator("img")
    width = "image => image.clientWidth"
    before = await picture.evaluate(width)
    await chat.get_by_role("button", name="Zoom in").click()
    assert await picture.evaluate(width) > before * 1.4
    await chat.locator(".pointing").press("-")
    assert await picture.evaluate(width) == before
    await chat.keyboard.press("Escape")
    await expect(chat.get_by_role("dialog")).to_have_count(0)


async def test_older_messages_come_on_request(chat: Page) -> None:
    for number in range(27):
        await ask(chat, f"Question {number}")
    await chat.reload()
    await expect(chat.locator(".answer")).to_have_count(25)
    await chat.get_by_role("button", name="Show earlier messages").click()
    await expect(chat.locator(".bubble")).to_have_text([f"Question {number}" for number in range(27)])
    await expect(chat.get_by_role("button", name="Show earlier messages")).to_be_hidden()


async def test_what_is_announced(chat: Page, model: ScriptedChatModel) -> None:
    """A finished answer once, and nothing of it before."""
    await chat.evaluate("""() => {
      window.heard = [];
      const log = document.querySelector("visavis-chat").shadowRoot.querySelector("[role=log]");
      const told = ({ addedNodes }) => [...addedNodes].map((node) => node.textContent);
      const note = (changes) => heard.push(...changes.flatMap(told));
      new MutationObserver(note).observe(log, { childList: true, subtree: true });
    }""")
    model.pause_s = 0.02
    await ask(chat, "Who?")
    await chat.wait_for_function("heard.length > 0")
    assert [text.strip() for text in await chat.evaluate("heard")] == ["visavis: a red square on white"]
    live = chat.locator("[aria-live], [role=log], [role=status], [role=alert]").locator(".said")
    assert await live.count() == 0
