"""What the same weights do under transformers' own `generate`: one after another, and in batches that end together.

For comparison only (`visavis bench`); nothing that serves imports it. Forced lengths: the end token is forbidden, and
an answer of a batch is cut at its own length.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from visavis.models.byte_cache import ByteCache
from visavis.models.images import decode_picture, image_id
from visavis.models.kv_cache import KeyValue
from visavis.models.loading import load_model
from visavis.models.prompt import Exchange
from visavis.models.transformers_classes import VisavisConfig, VisavisForConditionalGeneration
from visavis.models.transformers_generation import EncodedMemory, encode_memory
from visavis.models.visavis_model import ImageState

Turn = tuple[bytes, str, tuple[Exchange, ...], int]
"""A picture, a question about it, what was said before, and how many tokens the answer shall have."""
Talk = tuple[bytes, Sequence[str], Sequence[int]]
"""A picture, questions in order, and the lengths of the answers."""


class GenerateRival:
    """`generate` in fp32, with transformers' own cache of keys and values within an answer."""

    def __init__(self, folder: Path, threads: int, device: str = "cpu") -> None:
        torch.set_num_threads(threads)
        plain, self.processor = load_model(folder, device)
        self.model = VisavisForConditionalGeneration(VisavisConfig.of(plain.config))
        self.model.load_state_dict(plain.state_dict())
        self.model.train(False).to(plain.device)
        self._states: ByteCache[str, ImageState] = ByteCache(1 << 30, lambda state: state.nbytes)

    def sequential(self, talks: Sequence[Talk]) -> tuple[float, list[list[str]]]:
        """Every turn by itself, the picture from its pixels. Gives seconds and the texts of each talk."""
        return self._timed(talks, 1, cached=False)

    def static_batch(self, talks: Sequence[Talk], *, cached: bool) -> tuple[float, list[list[str]]]:
        """A turn of all talks in one batch, then the next. If `cached`, what depends on a picture alone is known
        before the clock starts and handed over inside `encoder_outputs`."""
        if cached:
            for picture, _, _ in talks:
                self._state(picture)
        return self._timed(talks, len(talks), cached=cached)

    def _timed(self, talks: Sequence[Talk], size: int, *, cached: bool) -> tuple[float, list[list[str]]]:
        started = time.perf_counter()
        texts: list[list[str]] = [[] for _ in talks]
        for turn in range(len(talks[0][1])):
            for first in range(0, len(talks), size):
                chosen = range(first, min(first + size, len(talks)))
                answers = self.answer([_turn(talks[index], texts[index], turn) for index in chosen], cached=cached)
                for index, answer in zip(chosen, answers, strict=True):
                    texts[index].append(answer)
        return time.perf_counter() - started, texts

    @torch.inference_mode()
    def answer(self, turns: Sequence[Turn], *, cached: bool = False) -> list[str]:
        """The answers to turns in one batch."""
        encoded = self.processor.encode_questions([(question, history) for _, question, history, _ in turns])
        text = {name: ids.to(self.model.device) for name, ids in encoded.items()}
        longest = max(length for *_, length in turns)
        picture = {"encoder_outputs": self._encoder_outputs(turns, text)} if cached else self._pixels(turns)
        options = {"do_sample": False, "min_new_tokens": longest, "max_new_tokens": longest}
        ids: Tensor = self.model.generate(**text, **picture, **options)
        rows = zip(ids.tolist(), turns, strict=True)
        return [self._text(row[1 : 1 + length]) for row, (*_, length) in rows]

    def token_ids(self, text: str) -> list[int]:
        """An answer as tokens again, to compare how far two of them agree."""
        return self.processor.encode_answer(text)

    def _text(self, ids: list[int]) -> str:
        return self.processor.decode_answer(ids).replace("\ufffd", "").strip()

    def _pixels(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        pixels = self.processor.pixel_values([decode_picture(picture) for picture, *_ in turns])
        return {"pixel_values": pixels.to(self.model.device)}

    def _encoder_outputs(self, turns: Sequence[Turn], text: dict[str, Tensor]) -> EncodedMemory:
        states = [self._state(picture) for picture, *_ in turns]
        fusion, decoder = (
            tuple(_stack(rows) for rows in zip(*(getattr(state, part) for state in states), strict=True))
            for part in ("fusion", "decoder")
        )
        image = ImageState(torch.cat([state.patches for state in states]), fusion, decoder)
        read = self.model.encoder.read(text["input_ids"], text["attention_mask"], text["token_type_ids"])
        return encode_memory(self.model, image, read, text["attention_mask"])

    @torch.inference_mode()
    def _state(self, picture: bytes) -> ImageState:
        state = self._states.get(image_id(picture))
        if state is None:
            pixels = self.processor.pixel_values(decode_picture(picture)).to(self.model.device)
            state = self.model.image_state(self.model.encode_image(pixels))
            self._states.put(image_id(picture), state)
        return state


def _turn(talk: Talk, answers: Sequence[str], turn: int) -> Turn:
    picture, questions, lengths = talk
    return picture, questions[turn], tuple(zip(questions, answers, strict=False)), lengths[turn]


def _stack(memories: Sequence[KeyValue]) -> KeyValue:
    return KeyValue(torch.cat([memory.key for memory in memories]), torch.cat([memory.value for memory in memories]))
