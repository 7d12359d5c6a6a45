"""The heat maps of an answer as one picture, for platforms that cannot draw."""

from __future__ import annotations

import asyncio
import base64
import io

from PIL import Image

from visavis.bot.heat_picture import draw_sheet
from visavis.dialogue.explaining import Explanation
from visavis.dialogue.manager import DialogueManager
from visavis.models.generation import WordHeat


async def heat_sheet(manager: DialogueManager, session: str, turn: str) -> bytes:
    """A PNG: where the whole answer and each of its words came from; raises as `DialogueManager.explain`."""
    explanation = await manager.explain(session, turn)
    _, photo = await manager.read_image(session, explanation.image)
    exchanges = (await manager.history(session, limit=200)).exchanges
    answer = next((one.answer.text for one in exchanges if one.question.id == turn), "")
    return await asyncio.to_thread(_draw, photo, explanation, answer)


def _draw(photo: bytes, explanation: Explanation, answer: str) -> bytes:
    columns = explanation.grid[1]
    words = [
        WordHeat(answer[word.start : word.end], word.start, word.end, _rows(word.map, columns))
        for word in explanation.words
    ]
    data = io.BytesIO()
    with Image.open(io.BytesIO(photo)) as image:
        draw_sheet(image, words).save(data, "PNG")
    return data.getvalue()


def _rows(encoded: str, columns: int) -> tuple[tuple[float, ...], ...]:
    cells = base64.b64decode(encoded)
    return tuple(tuple(cells[start : start + columns]) for start in range(0, len(cells), columns))
