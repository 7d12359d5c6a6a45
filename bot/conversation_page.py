"""A conversation as one HTML file that needs nothing else: pictures and heat maps stand inside it. Knows no store."""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from visavis.bot.heat_picture import overlay
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.explaining import Explanation
from visavis.dialogue.turns import Exchange, Turn

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }}
article {{ margin: 1rem 0; padding: .5rem 1rem; border-left: .25rem solid #999; }}
.assistant {{ border-color: #36c; }}
img {{ max-width: 20rem; max-height: 20rem; }}
time {{ color: #666; font-size: .8rem; }}
</style>
<h1>{title}</h1>
{body}
"""


def conversation_page(
    title: str, exchanges: Sequence[Exchange], pictures: Mapping[str, bytes], maps: Mapping[str, Explanation]
) -> str:
    """All exchanges, oldest first; `pictures` by sha256, `maps` by turn."""
    parts = []
    for one in exchanges:
        parts.append(_article(one.question, _shown(one.question, pictures)))
        heat = maps.get(one.question.id)
        drawn = _heat(heat, pictures[heat.image]) if heat and heat.image in pictures else ""
        parts.append(_article(one.answer, drawn))
    return _PAGE.format(title=html.escape(title or "A conversation"), body="\n".join(parts))


def _article(turn: Turn, pictures: str) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(turn.at))
    plain = f'<p style="white-space: pre-wrap">{html.escape(turn.text)}</p>'
    said = turn.final.html if isinstance(turn.final, TurnCompleted) else plain  # sanitised when it was made
    return f'<article class="{turn.role}"><time>{at}</time>{pictures}{said}</article>'


def _shown(turn: Turn, pictures: Mapping[str, bytes]) -> str:
    return "".join(_image(pictures[image], "a picture that was shown") for image in turn.images if image in pictures)


def _heat(explanation: Explanation, picture: bytes) -> str:
    rows = np.frombuffer(base64.b64decode(explanation.answer), np.uint8).reshape(explanation.grid)
    drawn = io.BytesIO()
    photo = Image.open(io.BytesIO(picture)).convert("RGB")
    photo.thumbnail((480, 480))
    overlay(photo, rows.tolist()).save(drawn, "JPEG", quality=85)
    return _image(drawn.getvalue(), "where the model looked for this answer")


def _image(data: bytes, alt: str) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f'<p><img alt="{alt}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}"></p>'
