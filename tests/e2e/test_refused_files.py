"""Files that cannot be taken: what is said of them names them, says why, and says it of each."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest
from browser import Complaints, drawn_picture, pick
from PIL import Image
from playwright.async_api import BrowserContext, FilePayload, Locator, Page, expect
from running_gateway import running_gateway
from scripted_chat_model import ScriptedChatModel

from visavis.bot.settings import load_settings

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
async def strict(
    store_url: str, context: BrowserContext, model: ScriptedChatModel, complaints: Complaints
) -> AsyncIterator[Page]:
    """A page of a gateway that takes no more than a megabyte."""
    async with running_gateway(load_settings(redis_url=store_url, drain_s=5, max_image_bytes=2**20), model) as url:
        page = await context.new_page()
        complaints.listen_to(page)
        await page.goto(url)
        await page.get_by_role("textbox", name="Message").wait_for()
        yield page
        complaints.forgive("Failed to load resource")  # the browser logs what the server refuses
        assert complaints.heard == []


def saved(picture: Image.Image, kind: str) -> bytes:
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


def said(page: Page) -> Locator:
    return page.get_by_role("alert")


async def pick_all(page: Page, *files: FilePayload) -> None:
    await page.locator("input[type=file]").first.set_input_files(list(files))


async def test_one_that_is_too_large(strict: Page) -> None:
    await pick(strict, "noise.png", saved(Image.effect_noise((1300, 1000), 90), "PNG"))
    await expect(said(strict)).to_contain_text("noise.png")
    await expect(said(strict)).to_contain_text("is too large. Pictures may have up to 1 MB.")
    await expect(strict.locator(".attachment")).to_have_count(0)


async def test_one_that_is_a_bomb(strict: Page) -> None:
    bomb = bytearray(drawn_picture())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # in the header; the pixels never come
    await pick(strict, "bomb.png", bytes(bomb))
    await expect(said(strict)).to_contain_text("bomb.png")
    await expect(strict.locator(".attachment")).to_have_count(0)


async def test_one_that_is_broken(strict: Page) -> None:
    await pick(strict, "half.png", drawn_picture()[:600])
    await expect(said(strict)).to_contain_text("half.png")
    await expect(said(strict)).to_contain_text("could not be read as a picture. It may be damaged or cut off.")


async def test_one_of_a_kind_that_is_not_read(strict: Page) -> None:
    drawing: FilePayload = {"name": "drawing.svg", "mimeType": "image/svg+xml", "buffer": b"<svg xmlns='x'/>"}
    await pick_all(strict, drawing)
    await expect(said(strict)).to_contain_text("drawing.svg")
    await expect(said(strict)).to_contain_text("not a kind of picture I can read. JPEG, PNG and WebP work.")


async def test_several_at_once_are_told_apart_and_the_good_one_stays(strict: Page) -> None:
    await pick_all(
        strict,
        {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"milk, eggs"},
        {"name": "ball.png", "mimeType": "image/png", "buffer": drawn_picture()},
        {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"milk, eggs"},
    )
    await expect(said(strict)).to_contain_text("notes.txt")
    await expect(said(strict)).to_contain_text("broken.jpg")
    await expect(strict.locator(".attachment[data-state=stored]")).to_have_count(1)
    await pick(strict, "ball.png", drawn_picture())
    await expect(said(strict)).to_be_empty()


async def test_a_hostile_name_stays_short_and_keeps_its_direction_to_itself(strict: Page) -> None:
    name = "photo\u202egpj." + "x" * 180 + "<b>.txt"
    await pick_all(strict, {"name": name, "mimeType": "text/plain", "buffer": b"x"})
    await expect(said(strict)).to_contain_text("is not a picture")
    sentence = await said(strict).inner_text()
    assert "\u2068photo\u202e" in sentence and "…" in sentence and len(sentence) < 160
    assert sentence.index("\u2069") < sentence.index("is not")
    assert await strict.locator("visavis-chat").evaluate("chat => chat.shadowRoot.querySelector('.notice b')") is None


async def test_what_was_said_of_an_upload_goes_with_the_next_try(strict: Page) -> None:
    await strict.route("**/v1/images", lambda route: route.abort())
    await pick(strict, "ball.png", drawn_picture())
    await expect(said(strict)).to_contain_text("did not get through")
    await strict.unroute("**/v1/images")
    await strict.get_by_role("button", name="Try the upload of ball.png again").click()
    await expect(strict.locator(".attachment[data-state=stored]")).to_be_visible()
    await expect(said(strict)).to_be_empty()
