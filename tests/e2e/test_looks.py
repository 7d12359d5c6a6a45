"""What is to be seen, and how: heat on any picture, the part of it that is meant, less motion, forced colors."""

from __future__ import annotations

import io

import pytest
from browser import ask, drawn_picture, pick
from PIL import Image
from playwright.async_api import Page, expect
from scripted_chat_model import ScriptedChatModel

pytestmark = pytest.mark.timeout(240)

EDGES = """() => {
  const root = document.querySelector("visavis-chat").shadowRoot;
  const shown = [...root.querySelectorAll(".bubble, .composer, button, progress, textarea")]
    .filter((one) => one.checkVisibility() && !one.matches(".quiet, .picture, .remove, .composer textarea"));
  const bare = shown.filter((one) => parseFloat(getComputedStyle(one).borderTopWidth) < 1);
  return bare.map((one) => one.outerHTML.slice(0, 80));
}"""


async def answering(page: Page, model: ScriptedChatModel) -> None:
    model.pause_s = 5
    await page.get_by_role("textbox", name="Message").fill("Who?")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Looking")).to_be_visible()


@pytest.mark.parametrize("color", ["black", "white", "orange"])
async def test_heat_is_seen_on_a_picture_of_any_colour(chat: Page, color: str) -> None:
    data = io.BytesIO()
    Image.new("RGB", (200, 200), color).save(data, "PNG")
    await pick(chat, "plain.png", data.getvalue())
    await ask(chat, "What is this?")
    await chat.get_by_role("button", name="Where did it look?").click()
    await chat.locator(".word").nth(1).click()
    await expect(chat.locator(".heat-picture img")).to_have_js_property("naturalWidth", 200)
    shot = Image.open(io.BytesIO(await chat.locator(".heat-picture").screenshot())).convert("RGB")
    width, height = shot.size
    hot, cold = (shot.getpixel((int(width * x), int(height * y))) for x, y in ((0.3, 0.3), (0.8, 0.8)))
    assert isinstance(hot, tuple) and isinstance(cold, tuple)
    assert sum(abs(one - other) for one, other in zip(hot, cold, strict=True)) > 120, (hot, cold)


async def test_zoom_goes_into_what_is_pointed_at(chat: Page) -> None:
    await pick(chat, "ball.png", drawn_picture())
    await ask(chat, "What is this?")
    await chat.get_by_role("button", name="Open the picture").click()
    pointing = chat.locator(".pointing")
    for key in ["ArrowDown"] * 8 + ["ArrowRight"] * 8 + ["+"] * 3:
        await pointing.press(key)
    inside = """stage => {
      const [outer, box] = [stage, stage.querySelector(".box")].map((one) => one.getBoundingClientRect());
      const across = box.left >= outer.left - 1 && box.right <= outer.right + 1;
      return across && box.top >= outer.top - 1 && box.bottom <= outer.bottom + 1;
    }"""
    assert await chat.locator(".stage").evaluate(inside)


async def test_a_part_that_the_keyboard_chose_leaves_the_question_empty(chat: Page) -> None:
    await pick(chat, "ball.png", drawn_picture())
    await ask(chat, "What is in it?")
    await chat.get_by_role("button", name="Open the picture").click()
    await chat.locator(".pointing").press("ArrowDown")
    await chat.keyboard.press("Enter")
    field = chat.get_by_role("textbox", name="Message")
    await expect(field).to_be_focused()
    await expect(field).to_have_value("")
    await expect(field).to_have_attribute("placeholder", "What is this?")


async def test_a_part_is_pointed_at_before_its_picture_is_sent(chat: Page, model: ScriptedChatModel) -> None:
    await pick(chat, "ball.png", drawn_picture())
    await expect(chat.locator(".attachment[data-state=stored]")).to_be_visible()
    await chat.get_by_role("button", name="Open the picture").press("Enter")
    await expect(chat.get_by_role("button", name="Cover it and ask again")).to_have_count(0)
    await chat.locator(".pointing").press("ArrowDown")
    await chat.locator(".pointing").press("Enter")
    await expect(chat.locator(".attachment")).to_have_count(2)  # the picture and the part
    await chat.keyboard.press("Enter")
    await expect(chat.locator(".bubble")).to_have_text("What is this?")
    await expect(chat.locator(".said")).to_have_text("a red square on white ")
    await expect(chat.locator(".question canvas.cut-out")).to_have_count(1)
    assert "'region': {'x': 0.35" in str(model.asked[0])


async def test_who_wants_less_motion_gets_none(chat: Page, model: ScriptedChatModel) -> None:
    await chat.emulate_media(reduced_motion="reduce")
    await chat.set_viewport_size({"width": 600, "height": 400})
    for _ in range(4):
        await ask(chat, "Who?")
    jump = """scroller => {
      scroller.scrollTo({ top: 0, behavior: "instant" });
      scroller.parentElement.querySelector(".latest").click();
      return scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
    }"""
    assert await chat.locator(".scroller").evaluate(jump) < 2
    await answering(chat, model)
    moving = """root => root.getAnimations({ subtree: true })
      .filter(({ effect }) => effect.getComputedTiming().duration > 1).length"""
    assert await chat.locator(".frame").evaluate(moving) == 0


async def test_forced_colors_keep_edges_focus_and_progress(chat: Page, model: ScriptedChatModel) -> None:
    await chat.emulate_media(forced_colors="active")
    await pick(chat, "ball.png", drawn_picture())
    await ask(chat, "What is this?")
    await chat.get_by_role("button", name="Good answer").click()
    pressed = chat.locator(".good[aria-pressed=true]")
    await expect(pressed).to_have_css("outline-style", "solid")
    assert await chat.evaluate(EDGES) == []
    await chat.get_by_role("textbox", name="Message").focus()
    await expect(chat.locator(".composer")).to_have_css("outline-style", "solid")
    await chat.get_by_role("button", name="Open the picture").click()
    await chat.locator(".pointing").press("ArrowDown")
    assert await chat.evaluate(EDGES) == []
    await chat.keyboard.press("Escape")
    await answering(chat, model)
    colours = """dot => [dot, dot.closest(".panel")].map((one) => getComputedStyle(one).backgroundColor)"""
    dot, ground = await chat.locator(".dots i").first.evaluate(colours)
    assert dot != ground
