"""`POST /v1/embeddings`: texts and pictures as vectors of a model's space, in OpenAI's form.

A picture comes as a data URL among the texts, or in the forms that messages have. Knows no HTTP.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel

from visavis.bot.openai_api.bodies import EmbeddingsRequest
from visavis.bot.openai_api.content_parts import TextPart
from visavis.bot.openai_api.conversation import PictureSource, picture_source
from visavis.bot.openai_api.errors import ApiError
from visavis.bot.openai_api.pictures import Pictures
from visavis.dialogue.explaining import speaker
from visavis.models.chat_model import VisavisChatModel
from visavis.models.errors import ModelError, NoSharedSpace
from visavis.models.generation import Embedding

MAX_PICTURES = 32


async def embed(
    body: EmbeddingsRequest, name: str, model: BaseChatModel, pictures: Pictures, session: str | None
) -> dict[str, Any]:
    """The body of the answer.

    Raises:
        ApiError: `model_not_found` where the model has no such space; DialogueError, ModelError: an input is no good.
    """
    ours = speaker(model, name)
    if not isinstance(ours, VisavisChatModel):
        raise _no_space(name)
    inputs = await _inputs(body, pictures, session)
    try:
        made = await ours.embeddings().aembed(inputs)
    except ModelError as error:
        raise (_no_space(name) if error.code == NoSharedSpace.code else error) from error
    if body.dimensions not in (None, len(made[0].vector)):
        raise ApiError(f"Vectors of this model have {len(made[0].vector)} numbers.", param="dimensions")
    data = [_data(number, one, body.encoding_format) for number, one in enumerate(made)]
    tokens = sum(one.tokens for one in made)
    return {"object": "list", "data": data, "model": name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


async def _inputs(body: EmbeddingsRequest, pictures: Pictures, session: str | None) -> list[str | bytes]:
    """Texts, and the checked bytes of pictures."""
    given: Sequence[Any] = [body.input] if isinstance(body.input, str) else body.input
    read = [_read(one, f"input.{number}") for number, one in enumerate(given)]
    if sum(isinstance(one, PictureSource) for one in read) > MAX_PICTURES:
        raise ApiError(f"A request may have at most {MAX_PICTURES} pictures.", param="input")
    return [await pictures.read(one, session) if isinstance(one, PictureSource) else one for one in read]


def _read(one: Any, place: str) -> str | PictureSource:
    if isinstance(one, TextPart):
        one = one.text
    if not isinstance(one, str):
        return picture_source(one, place)
    if one[:5].lower() == "data:":
        return PictureSource("data", one, place)
    if not one.strip():
        raise ApiError("A text is empty.", param=place)
    return one


def _data(number: int, made: Embedding, form: str | None) -> dict[str, Any]:
    """Base64 is what OpenAI's own client asks for: 32-bit floats, little-endian."""
    vector: Any = list(made.vector)
    if form == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
    return {"object": "embedding", "index": number, "embedding": vector}


def _no_space(name: str) -> ApiError:
    message = f"The model {name!r} has no embeddings for words and pictures."
    return ApiError(message, code="model_not_found", status=404, param="model")
