"""What `visavis explain` does: an answer, a sheet of where its words came from, and the answer with a part hidden."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageStat

from visavis.bot.heat_picture import draw_sheet
from visavis.bot.local_chat import LocalConversation, MemoryImages, open_engine
from visavis.bot.settings import Settings
from visavis.bot.terminal_chat import write
from visavis.dialogue.errors import BadRequest
from visavis.models.generation import GenerationRequest, Region
from visavis.models.text_checks import bounded_text

SHEETS = (".png", ".jpg", ".jpeg", ".webp")


async def explain(settings: Settings, photo: Path, question: str, out: Path | None, cover: Region | None) -> None:
    """Print the answer (and what it becomes with `cover` hidden); write the sheet to `out`.

    Raises:
        OSError, DialogueError: the photo cannot be used or the sheet not written. ModelNotFound, ModelError.
    """
    if out is not None and out.suffix.lower() not in SHEETS:  # before the model is loaded for nothing
        raise BadRequest(f"A sheet is written as {', '.join(SHEETS)}; {out.name!r} is none of these.")
    images = MemoryImages(settings.limits.image)
    shown = images.add(photo)
    with open_engine(settings) as engine:
        answer = await _ask(LocalConversation(engine, images), question, shown)
        write(f"{answer}\n")
        if out is not None:
            words = await engine.explain(GenerationRequest(bounded_text(question), (), shown), answer)
            if words:
                draw_sheet(_open(await images.read(shown)), words).save(out)
            write(f"Where the words came from: {out}\n" if words else "Nobody looked at the photo for this answer.\n")
        if cover is not None:
            hidden = images.add_bytes(_cover(_open(await images.read(shown)), cover))
            write(f"With that part hidden: {await _ask(LocalConversation(engine, images), question, hidden)}\n")


async def _ask(conversation: LocalConversation, question: str, image: str) -> str:
    return "".join([piece async for piece in conversation.ask(question, [image])])


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _cover(photo: Image.Image, part: Region) -> bytes:
    """Paint the part over in the photo's mean color, so that the cover itself is nothing to look at."""
    red, green, blue = (round(value) for value in ImageStat.Stat(photo).mean)
    width, height = photo.size
    left, top = round(part.x * width), round(part.y * height)
    photo.paste((red, green, blue), (left, top, left + round(part.w * width), top + round(part.h * height)))
    data = io.BytesIO()
    photo.save(data, "PNG")
    return data.getvalue()
