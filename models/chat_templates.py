"""Somebody else's chat template: which form of messages it takes, and what it can say. Found out by trying.

Templates differ: some take parts and some plain texts, some know no system role or none beside a picture, some print a
list that they do not know, and not every processor takes several pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from PIL import Image

from visavis.models.errors import ModelError
from visavis.models.generation import Message, Shown
from visavis.models.transformers_dialogue import folded

logger = logging.getLogger(__name__)

# Of models whose checkpoint has none: as the first models of LLaVA's kind were trained.
DIALOGUE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }} "
    "{% elif m.role == 'user' %}USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_SYSTEM, _ASKED, _ANSWERED, _NEXT = "visavis-instructed", "visavis-asked", "visavis-answered", "visavis-next"
_SHOWN = Shown("0" * 64)


class Form(NamedTuple):
    """How messages are handed to a template: contents as parts or as texts, instructions as `parts`, as a `text`, or
    `folded` into the first question; and pictures to the processor, as those of a batch of one or as a plain list."""

    parts: bool
    system: str
    nested: bool = True


_FORMS = [
    Form(parts, system, nested)
    for nested in (True, False)
    for parts, system in ((True, "parts"), (True, "text"), (False, "text"), (True, "folded"), (False, "folded"))
]


def own_template(processor: Any) -> Any:
    """The template of the processor, else of its tokenizer; None if there is none."""
    own = getattr(processor, "chat_template", None)
    found = own or getattr(getattr(processor, "tokenizer", None), "chat_template", None) or None
    return found.get("default") if isinstance(found, Mapping) else found


class ChatTemplate:
    """Writes dialogues with `template` and makes the model's inputs of them, in which `image_tokens` are pictures.

    Raises:
        ModelError: no question about a picture can be written.
    """

    def __init__(self, processor: Any, template: Any, image_tokens: Sequence[int]) -> None:
        self._processor = processor
        self._image_tokens = image_tokens
        self._problem = ""
        self._options = {} if getattr(processor, "chat_template", None) else {"chat_template": template}
        self._token = str(getattr(processor, "image_token", None) or "<image>")
        self._form = lru_cache(self._find_form)
        self.several_pictures = self._form(False, 3) is not None
        self.reads_dialogue = self.several_pictures or self._form(False, 1) is not None
        if not self.reads_dialogue and self._form(False, 1, alone=True) is None:
            raise ModelError(self._problem)
        self.without_picture = self.reads_dialogue and self._form(False, 0) is not None
        form = self._form(True, 1, alone=not self.reads_dialogue)
        self.has_system = form is not None and form.system != "folded"

    def encode(self, turns: Sequence[Message], pictures: Sequence[Any]) -> Mapping[str, Any]:
        """Turns of `turns_of` with their pictures in order, as tensors. If the template reads no dialogues, there is a
        question alone, perhaps with instructions."""
        has_system = turns[0].role == "system"
        # Whether there are two pictures or ten makes no difference to a template.
        number = 3 if len(pictures) > 1 else len(pictures)
        form = self._form(has_system, number, alone=not self.reads_dialogue) or Form(True, "folded")
        return self._tensors(form, self._text(form, turns), pictures)

    def _find_form(self, has_system: bool, pictures: int, alone: bool = False) -> Form | None:
        self._problem = ""
        for form in _FORMS:
            if (not has_system and form.system == "folded") or (not pictures and not form.nested):
                continue
            try:
                (self._try_alone if alone else self._try)(form, has_system, pictures)
                return form
            except Exception as error:  # templates and processors of strangers raise anything
                logger.debug("%s pictures, %s: %s", pictures, form, error)
                self._problem = self._problem or first_line(error)
        return None

    def _try(self, form: Form, has_system: bool, pictures: int) -> None:
        first, last = (pictures, 0) if pictures < 2 else (pictures - 1, 1)
        text = self._text(form, list(_probe(has_system, first, last)))
        words = [_ASKED, _ANSWERED, _NEXT, *([_SYSTEM] if has_system else [])]
        if "'type':" in text or any(text.count(word) != 1 for word in words):
            raise ValueError(f"the template lost or printed something: {text!r}")
        fewer = [(first - 1, last)] * (first > 0) + [(first, 0)] * (last > 0)
        if any(len(text) <= len(self._text(form, list(_probe(has_system, *counts)))) for counts in fewer):
            raise ValueError("the template shows no picture, or not all of them")
        self._try_pictures(form, text, pictures)

    def _try_alone(self, form: Form, has_system: bool, pictures: int) -> None:
        """Some templates write one question, and those of readers of documents not even that."""
        *before, asked = _probe(has_system, 0, pictures)
        text = self._text(form, [*before[:has_system], asked])
        if "'type':" in text or (has_system and _SYSTEM not in text):
            raise ValueError(f"the template printed something: {text!r}")
        self._try_pictures(form, text, pictures)

    def _try_pictures(self, form: Form, text: str, pictures: int) -> None:
        inputs = self._tensors(form, text, [blank_picture()] * pictures)
        if pictures and self._image_tokens and not count(inputs, self._image_tokens):
            raise ValueError("no picture reaches the model")

    def _text(self, form: Form, turns: Sequence[Message]) -> str:
        written = folded(turns) if form.system == "folded" else turns
        messages = [{"role": turn.role, "content": self._content(form, turn)} for turn in written]
        return str(
            self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **self._options)
        )

    def _content(self, form: Form, turn: Message) -> Any:
        if not form.parts or (turn.role == "system" and form.system == "text"):
            return "\n".join(self._token if isinstance(part, Shown) else part for part in turn.parts)
        return [{"type": "image"} if isinstance(part, Shown) else {"type": "text", "text": part} for part in turn.parts]

    def _tensors(self, form: Form, text: str, pictures: Sequence[Any]) -> Mapping[str, Any]:
        start = getattr(getattr(self._processor, "tokenizer", None), "bos_token", None)
        # Else there would be two of them, which no model has seen in its training.
        options: dict[str, Any] = {"add_special_tokens": False} if start and text.startswith(start) else {}
        if pictures:
            options["images"] = [list(pictures)] if form.nested else list(pictures)
        return self._processor(text=[text], return_tensors="pt", **options)  # type: ignore[no-any-return]


def blank_picture() -> Image.Image:
    """For trials."""
    return Image.new("RGB", (64, 48), "gray")


def count(inputs: Mapping[str, Any], tokens: Sequence[int]) -> int:
    """How many of the ids in the inputs are among the tokens."""
    return int(torch.isin(inputs["input_ids"], torch.tensor(tokens)).sum()) if "input_ids" in inputs and tokens else 0


def first_line(error: Exception) -> str:
    """What a sentence may quote of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _probe(has_system: bool, first: int, last: int) -> Iterator[Message]:
    """A dialogue with so many pictures in its first question and in its last one."""
    if has_system:
        yield Message("system", (_SYSTEM,))
    yield Message("user", (*[_SHOWN] * first, _ASKED))
    yield Message("assistant", (_ANSWERED,))
    yield Message("user", (*[_SHOWN] * last, _NEXT))
