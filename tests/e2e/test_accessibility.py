"""Every state of the page under axe-core's WCAG 2.2 A and AA rules, and what no rule sees: focus, size, language."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest
from axe_playwright_python.async_playwright import Axe
from browser import Complaints, ask, drawn_picture, pick
from playwright.async_api import Page, expect
from scripted_chat_model import ScriptedChatModel

from visavis.models.errors import ModelError

pytestmark = pytest.mark.timeout(240)

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
SMALL = """() => {
  const shown = (element) => element.checkVisibility() && getComputedStyle(element).clipPath === "none";
  const root = document.querySelector("visavis-chat").shadowRoot;
  return [...root.querySelectorAll("button, input:not([type=checkbox]), textarea, label, a")].filter(shown)
    .map((element) => [element.outerHTML.slice(0, 80), element.getBoundingClientRect()])
    .filter(([, box]) => box.width < 43.9 || box.height < 43.9).map(([html]) => html);
}"""
SIDEWAYS = "document.documentElement.scrollWidth - innerWidth"

State = Callable[[Page, ScriptedChatModel], Awaitable[None]]


async def empty(page: Page, model: ScriptedChatModel) -> None:
    await page.get_by_role("button", name="The cat").wait_for()


async def conversation(page: Page, model: ScriptedChatModel) -> None:
    model.confidence = 0.1
    await pick(page, "ball.png", drawn_picture())
    await ask(page, "What is this?")
    await page.get_by_role("button", name="Good answer").click()
    await page.get_by_label("may be used to train").wait_for()
    await page.get_by_role("button", name="Answer again").click()
    await page.get_by_text("2 of 2").wait_for()
    await pick(page, "other.png", drawn_picture()[:-1])
    await expect(page.locator(".attachment")).to_be_visible()


async def failed(page: Page, model: ScriptedChatModel) -> None:
    model.error = ModelError("no")
    await page.get_by_role("textbox", name="Message").fill("Who?")
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Try again").wait_for()
    await page.route("**/v1/images", lambda route: route.abort())
    await pick(page, "ball.png", drawn_picture())
    await expect(page.get_by_role("alert").filter(has_text="did not get through")).to_be_visible()


async def heat(page: Page, model: ScriptedChatModel) -> None:
    await pick(page, "ball.png", drawn_picture())
    await ask(page, "What is this?")
    await page.get_by_role("button", name="Where did it look?").click()
    await page.locator(".word").nth(2).press("ArrowRight")


async def answering(page: Page, model: ScriptedChatModel) -> None:
    """Beside a banner, for the line is cut."""
    model.answer, model.pause_s = "again " * 300, 0.05
    await page.get_by_role("textbox", name="Message").fill("Who?")
    await page.keyboard.press("Enter")
    await page.get_by_text("again again").wait_for()
    await page.context.set_offline(True)
    await page.evaluate("dispatchEvent(new Event('offline'))")
    await page.get_by_role("button", name="Try now").wait_for()


async def editing(page: Page, model: ScriptedChatModel) -> None:
    await ask(page, "Who?")
    await page.get_by_role("button", name="Edit the question").click()


async def drawer(page: Page, model: ScriptedChatModel) -> None:
    await ask(page, "Who?")
    await page.get_by_role("button", name="Conversations").click()
    await page.locator(".entry").wait_for()


async def viewer(page: Page, model: ScriptedChatModel) -> None:
    await pick(page, "ball.png", drawn_picture())
    await ask(page, "What is this?")
    await page.get_by_role("button", name="Open the picture").click()
    await page.locator(".pointing").press("ArrowDown")


STATES: list[State] = [empty, conversation, heat, answering, failed, editing, drawer, viewer]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_no_state_breaks_a_rule(
    chat: Page, model: ScriptedChatModel, complaints: Complaints, state: State
) -> None:
    await state(chat, model)
    complaints.forgive("Failed to load resource")
    for width, scheme in itertools.product((1280, 360), ("light", "dark")):
        await chat.set_viewport_size({"width": width, "height": 740})
        await chat.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        results = await Axe().run(chat, options=RULES)
        broken = [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in results.response["violations"]]
        assert broken == [], (width, scheme)
        assert await chat.evaluate(SMALL) == [], (width, scheme)
        assert await chat.evaluate(SIDEWAYS) <= 0, (width, scheme)


async def test_a_whole_conversation_needs_no_mouse(chat: Page, model: ScriptedChatModel) -> None:
    """Tab reaches everything, in reading order, and the focus is always to be seen."""
    await pick(chat, "ball.png", drawn_picture())
    await ask(chat, "What is this?")
    reached = []
    for _ in range(14):
        await chat.keyboard.press("Tab")
        focused = "document.activeElement.shadowRoot?.activeElement"
        reached.append(
            await chat.evaluate(f"{focused}?.getAttribute('aria-label') ?? {focused}?.textContent.trim() ?? ''")
        )
        outlined = f"(() => {{ const one = {focused}; return !one || one.matches('textarea, .scroller') || "
        assert await chat.evaluate(outlined + "getComputedStyle(one).outlineStyle !== 'none'; })()"), reached
    order = ["Conversations", "New conversation", "Open the picture", "Edit the question", "Copy the answer"]
    order += ["Answer again", "Good answer", "Bad answer", "Where did it look?", "Add a picture"]
    assert [name for name in reached if name in order][: len(order)] == order


@pytest.mark.parametrize("languages", [["zh-CN", "en"], ["fr", "de"]])
async def test_the_browser_s_language_is_spoken_where_it_is_known(
    chat: Page, gateway: str, languages: list[str]
) -> None:
    browser = chat.context.browser
    assert browser is not None
    context = await browser.new_context(locale=languages[0])
    page = await context.new_page()
    await page.goto(gateway)
    chinese = languages[0] == "zh-CN"
    await expect(
        page.get_by_role("heading", name="给我看一张图片。" if chinese else "Show me a picture.")
    ).to_be_visible()
    await expect(page.locator(".frame")).to_have_attribute("lang", "zh-CN" if chinese else "en")
