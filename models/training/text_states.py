"""States of the text encoder for packed texts: computed with gradients, or remembered when it is frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from visavis.models.processor import Processor
from visavis.models.training.batches import Text
from visavis.models.visavis_model import VisavisModel

CHUNK = 16


class TextStates:
    """Texts (question, history) to states.

    A frozen encoder gives every text the same states in every epoch; they are kept in memory in float16, about 20 KiB a
    dialogue turn.
    """

    def __init__(
        self, model: VisavisModel, processor: Processor, frozen: bool, autocast: Callable[[], Any] = nullcontext
    ) -> None:
        self.model, self.processor, self.frozen, self.autocast = model, processor, frozen, autocast
        self._known: dict[Text, Tensor] = {}

    def pack(self, rows: Sequence[Sequence[Text]], *, remember: bool = True) -> tuple[Tensor, Tensor]:
        """Each row's texts one after another: states (N, T, D_t) and segments (N, T), counted from 1, 0 is padding.

        Texts that will hardly come again are better not remembered.
        """
        found = self._find(list(dict.fromkeys(text for row in rows for text in row)), remember)
        states = pad_sequence([torch.cat([found[text] for text in row]) for row in rows], batch_first=True)
        segments = [
            torch.repeat_interleave(torch.arange(1, len(row) + 1), torch.tensor([len(found[text]) for text in row]))
            for row in rows
        ]
        return states.float(), pad_sequence(segments, batch_first=True)

    def _find(self, texts: list[Text], remember: bool) -> dict[Text, Tensor]:
        if not self.frozen or not remember:
            with torch.set_grad_enabled(not self.frozen and torch.is_grad_enabled()):
                return self._encode(texts)
        if missing := [text for text in texts if text not in self._known]:
            with torch.no_grad():
                self._known.update({text: states.half() for text, states in self._encode(missing).items()})
        return self._known

    def _encode(self, texts: list[Text]) -> dict[Text, Tensor]:
        """In chunks of like length, so that little is padded."""
        found: dict[Text, Tensor] = {}
        ordered = sorted(texts, key=lambda text: sum(map(len, chain(text[:1], *text[1]))))
        for start in range(0, len(ordered), CHUNK):
            chunk = ordered[start : start + CHUNK]
            inputs = self.processor.encode_questions(chunk)
            mask = inputs["attention_mask"]
            with self.autocast():
                states = self.model.encoder.read(inputs["input_ids"], mask, inputs["token_type_ids"]).float()
            found.update((text, row[real]) for text, row, real in zip(chunk, states, mask.bool(), strict=True))
        return found
