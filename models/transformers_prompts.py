"""From a request to the inputs of somebody else's image-text-to-text model: its chat template, or the words it learnt.

Knows processors of transformers and no weights. What a template can do is found out once, with words and pictures of
our own; what people write is never looked at for that.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from visavis.models.chat_templates import DIALOGUE, ChatTemplate, blank_picture, count, first_line, own_template
from visavis.models.errors import ModelError, TextTooLong
from visavis.models.generation import GenerationRequest, Message, Shown
from visavis.models.transformers_dialogue import shortened, turns_of

# Of models that were trained with short prompts and have no chat template. {image} is where the processor expects its
# token, if it has one.
PROMPTS: Mapping[str, str] = {
    "paligemma": "{image}answer en {question}",
    "blip": "{question}",
    "blip-2": "Question: {question} Answer:",
    "instructblip": "{question}",
    "git": "{question}",
    "fuyu": "{question}\n",
    "kosmos-2": "<grounding> Question: {question} Answer:",
    "florence2": "{question}",
    "pix2struct": "{question}",
    "got_ocr2": "<|im_start|>user\n<img>{image}</img>\n{question}<|im_end|><|im_start|>assistant\n",
}
OWN_IMAGE_TOKENS = frozenset({"blip", "blip-2", "instructblip", "git", "fuyu", "kosmos-2", "florence2", "pix2struct"})
LONGEST_TOKEN = 16  # characters: what cannot fit is not even counted
Read = Callable[[Shown], Any]


@dataclass(frozen=True)
class Prompt:
    """What `generate` takes (a batch of one), the pictures in it, how many of its tokens are theirs, and how many more
    the model can read, if that has an end."""

    inputs: Mapping[str, Any]
    images: tuple[str, ...]
    image_tokens: int
    left: int | None = None

    @property
    def tokens(self) -> int:
        """All of them; none where words are drawn into the picture."""
        return int(self.inputs["input_ids"].shape[1]) if "input_ids" in self.inputs else 0


class Prompts:
    """How the model of `config` is asked.

    Raises:
        ModelError: its processor fails on a question of ours.
    """

    def __init__(self, processor: Any, config: Any) -> None:
        model_type = config.model_type
        self._processor = processor
        self._window = _window(config)
        self._image_tokens = _image_tokens(processor, config)
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._short = PROMPTS.get(model_type)
        self._places_image = model_type not in OWN_IMAGE_TOKENS
        template = own_template(processor) or (DIALOGUE if self._short is None else None)
        self._template = None if template is None else ChatTemplate(processor, template, self._image_tokens)
        if template is None:
            self._try()
        special = {str(token) for token in getattr(self._tokenizer, "all_special_tokens", ())}
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).values()
        tokens = {*special, *(token.content for token in added if token.special)} - {""}
        self._reserved = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or r"(?!)")
        self._picture_tokens = 0

    @property
    def several_pictures(self) -> bool:
        """Whether it is shown all pictures of a conversation, or the one that a question is about."""
        return self._template is not None and self._template.several_pictures

    @property
    def without_picture(self) -> bool:
        """Whether it can be asked about nothing to see."""
        return self._template is not None and self._template.without_picture

    @property
    def _reads_dialogue(self) -> bool:
        return self._template is not None and self._template.reads_dialogue

    def told(self) -> str:
        """What is different with this model, in a sentence."""
        if self._template is None or not self._reads_dialogue:
            return "it looks at one picture and is asked the question alone, without earlier ones or system prompts"
        system = "system prompts" if self._template.has_system else "system prompts (in the first question)"
        if self.several_pictures:
            return f"it looks at all pictures of a conversation, and reads the dialogue and {system}"
        return f"it looks at one picture, the newest or named one, and reads what was said since then and {system}"

    def pictures(self, request: GenerationRequest) -> tuple[str, ...]:
        """The pictures that are shown, by their sha256."""
        if self.several_pictures:
            return tuple(dict.fromkeys(image for message in request.dialogue for image in message.images))
        return () if request.image is None else (request.image,)

    def make(self, request: GenerationRequest, read: Read, room: int = 0) -> Prompt:
        """The prompt, shortened from its beginning until `room` tokens are left; `read` gives a picture's pixels.

        Raises:
            TextTooLong: the question alone does not fit. What `read` raises.
        """
        turns = turns_of(request, several=self.several_pictures, harmless=self._harmless)
        if not self._reads_dialogue:
            turns = turns[-1:] if request.image is None else [_with(request.image, turns)]
        about = [part for part in turns[-1].parts if isinstance(part, Shown)] or [
            part for turn in turns for part in turn.parts if isinstance(part, Shown) and part.sha256 == request.image
        ]
        limit = None if self._window is None else self._window - min(room, self._window // 4)
        if limit is not None:
            turns = self._roughly(turns, about, limit)
        while True:
            prompt = self._encode(turns, read)
            if limit is None or self._window is None:
                return prompt
            if prompt.tokens <= limit:
                return replace(prompt, left=self._window - prompt.tokens)
            turns = self._without_oldest(turns, about, prompt.tokens, limit)

    def _roughly(self, turns: Sequence[Message], about: Sequence[Shown], limit: int) -> list[Message]:
        """Without what is far beyond the window, so that nobody has to count it."""
        left, drop = limit * LONGEST_TOKEN, 0
        talk = [turn for turn in turns if turn.role != "system"]
        for number, turn in enumerate(reversed(talk)):
            left -= sum(len(part) for part in turn.parts if isinstance(part, str))
            if left < 0 and number:
                drop = _even(len(talk) - number, talk)
                break
        return shortened(turns, about, drop) if drop else list(turns)

    def _without_oldest(
        self, turns: Sequence[Message], about: Sequence[Shown], tokens: int, limit: int
    ) -> list[Message]:
        """What a template writes around the words is shared out among them."""
        talk = [turn for turn in turns if turn.role != "system"]
        if len(talk) == 1:
            raise TextTooLong(f"the question has {tokens} tokens, of which this model reads {limit}")
        costs = [self._cost(turn) for turn in turns]
        over, drop = (1 - limit / tokens) * sum(costs), 0
        while over > 0 and drop < len(talk) - 1:
            over -= costs[len(turns) - len(talk) + drop]
            drop += 1
        return shortened(turns, about, _even(drop, talk))

    def _cost(self, turn: Message) -> int:
        texts = [part for part in turn.parts if isinstance(part, str)]
        pictures = len(turn.parts) - len(texts)
        return len(self._tokenizer("\n".join(texts))["input_ids"]) + pictures * self._picture_tokens

    def _encode(self, turns: Sequence[Message], read: Read) -> Prompt:
        shown = [part for turn in turns for part in turn.parts if isinstance(part, Shown)]
        pictures = [read(one) for one in shown]
        if self._template is not None:
            inputs = self._template.encode(turns, pictures)
        else:
            inputs = self._question(turns[-1], pictures)
        image_tokens = count(inputs, self._image_tokens)
        self._picture_tokens = image_tokens // len(shown) if shown else self._picture_tokens
        images = tuple(dict.fromkeys(one.sha256 for one in shown))
        return Prompt(inputs, images, image_tokens)

    def _try(self) -> None:
        try:
            self._question(Message("user", ("What is this?",)), [blank_picture()])
        except Exception as error:  # processors of strangers raise anything
            raise ModelError(first_line(error)) from error

    def _question(self, turn: Message, pictures: Sequence[Any]) -> Mapping[str, Any]:
        """The dialogue so far is left out of the short prompts that such models were trained with."""
        words = "\n".join(part for part in turn.parts if isinstance(part, str))
        token = getattr(self._processor, "image_token", None) if pictures and self._places_image else None
        text = (self._short or "{question}").format(image=token or "", question=words)
        if not pictures:
            return self._tokenizer(text, return_tensors="pt")  # type: ignore[no-any-return]
        return self._processor(images=pictures[0], text=text, return_tensors="pt")  # type: ignore[no-any-return]

    def _harmless(self, text: str) -> str:
        """Tokens that no person writes, such as the one that stands for a picture, come apart."""
        return self._reserved.sub(lambda token: f"{token[0][0]} {token[0][1:]}", text)


def _with(image: str, turns: Sequence[Message]) -> Message:
    """The last question with the picture, which an earlier one may have shown."""
    shown = [part for turn in turns for part in turn.parts if isinstance(part, Shown) and part.sha256 == image]
    words = [part for part in turns[-1].parts if isinstance(part, str)]
    return Message("user", (*shown[-1:], *words))


def _even(drop: int, talk: Sequence[Message]) -> int:
    """What is left begins with a question and is at least one."""
    while drop < len(talk) - 1 and talk[drop].role != "user":
        drop += 1
    return min(drop, len(talk) - 1)


def _image_tokens(processor: Any, config: Any) -> list[int]:
    """Which tokens stand for pictures, as far as the checkpoint says so."""
    named = [getattr(config, name, None) for name in ("image_token_id", "image_token_index")]
    return [one for one in (*named, *getattr(processor, "image_token_ids", ())) if isinstance(one, int)]


def _window(config: Any) -> int | None:
    """How many tokens fit, as far as the checkpoint says so."""
    with contextlib.suppress(ValueError):  # several parts of it read words
        text = config.get_text_config(decoder=not config.is_encoder_decoder)
        return getattr(text, "max_position_embeddings", None)
    return None
