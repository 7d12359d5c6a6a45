"""From a question to the inputs of somebody else's image-text-to-text model: its chat template, or the words it learnt.

Knows processors of transformers and no weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from PIL import Image

from visavis.models.generation import GenerationRequest

# Of models without a chat template. {image} is where the processor expects its token, if it has one.
PROMPTS: Mapping[str, str] = {
    "paligemma": "{image}answer en {question}",
    "blip": "{question}",
    "blip-2": "Question: {question} Answer:",
    "instructblip": "{question}",
    "git": "{question}",
    "fuyu": "{question}\n",
    "kosmos-2": "<grounding> Question: {question} Answer:",
    "florence2": "{question}",
}
DIALOGUE = "USER: {image}\n{question} ASSISTANT:"
OWN_IMAGE_TOKENS = frozenset({"blip", "blip-2", "instructblip", "git", "fuyu", "kosmos-2", "florence2"})


def model_inputs(processor: Any, model_type: str, request: GenerationRequest, picture: Image.Image | None) -> Any:
    """The batch of one that the processor makes, as torch tensors.

    Without a chat template the dialogue so far is left out of the short prompts that such models were trained with.
    """
    if has_chat_template(processor):
        text = _chat(processor, request, picture)
        if picture is None:
            return processor(text=[text], return_tensors="pt")
        return processor(text=[text], images=[picture], return_tensors="pt")
    text = _prompt(processor, model_type, request, picture)
    if picture is None:
        return getattr(processor, "tokenizer", processor)(text, return_tensors="pt")
    return processor(images=picture, text=text, return_tensors="pt")


def has_chat_template(processor: Any) -> bool:
    """True if the processor or its tokenizer says how a dialogue is written."""
    return _template(processor) is not None


def _template(processor: Any) -> Any:
    own = getattr(processor, "chat_template", None)
    return own or getattr(getattr(processor, "tokenizer", None), "chat_template", None) or None


def _chat(processor: Any, request: GenerationRequest, picture: Image.Image | None) -> str:
    """The dialogue as the template writes it. A template of the tokenizer's may know no parts: it gets plain texts."""
    options = {"chat_template": None if getattr(processor, "chat_template", None) else _template(processor)}
    messages = _messages(request, picture)
    with contextlib.suppress(TypeError, TemplateError):
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options)
        if "'type': 'text'" not in text:  # a list that was printed
            return str(text)
    token = getattr(processor, "image_token", "<image>")
    plain = [{**one, "content": _plain(one["content"], token)} for one in messages]
    return str(processor.apply_chat_template(plain, add_generation_prompt=True, tokenize=False, **options))


def _plain(parts: Sequence[Mapping[str, Any]], image_token: str) -> str:
    return "\n".join(part.get("text", image_token) for part in parts)


def _messages(request: GenerationRequest, picture: Image.Image | None) -> list[dict[str, Any]]:
    turns = [*request.history, (request.question, None)]
    messages: list[dict[str, Any]] = []
    for asked, answered in turns:
        shown = [{"type": "image"}] if picture is not None and not messages else []
        messages.append({"role": "user", "content": [*shown, {"type": "text", "text": asked}]})
        if answered is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answered}]})
    return messages


def _prompt(processor: Any, model_type: str, request: GenerationRequest, picture: Image.Image | None) -> str:
    token = getattr(processor, "image_token", "") if picture is not None else ""
    image = "" if model_type in OWN_IMAGE_TOKENS else str(token or "")
    return PROMPTS.get(model_type, DIALOGUE).format(image=image, question=request.question)
