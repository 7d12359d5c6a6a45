"""Pictures, questions and answers to tensors and back: one processor beside every checkpoint.

Questions are read with the text encoder's own word pieces, answers are written in byte-level BPE (Sennrich et al. 2016;
Radford et al. 2019), which keeps case and can spell anything. The files are those of transformers, which reads and
writes them through `transformers_processors.VisavisProcessor`; serving does without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from visavis.models.image_processor import ImageProcessor
from visavis.models.prompt import Exchange, render

MAX_TEXT_TOKENS = 128
SPECIAL_TOKENS = tuple(f"{kind}_token" for kind in ("pad", "unk", "cls", "sep", "mask", "bos", "eos"))


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and what its special tokens are for: {"pad_token": "[PAD]", ...}."""

    tokenizer: Tokenizer
    special_tokens: Mapping[str, str]

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read `tokenizer.json` and `tokenizer_config.json`."""
        options = _read_json(folder / "tokenizer_config.json")
        special = {name: options[name] for name in SPECIAL_TOKENS if isinstance(options.get(name), str)}
        return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), special)

    def special_id(self, name: str) -> int:
        """The id of a special token. Raises ValueError if there is none."""
        index = self.tokenizer.token_to_id(self.special_tokens.get(name, ""))
        if index is None:
            raise ValueError(f"the vocabulary has no {name}")
        return index

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()


class Processor:
    """`images` makes pixels, `questions` reads what is asked, `answers` what is said.

    A text has at most `MAX_TEXT_TOKENS`, or fewer where the questions' tokenizer truncates earlier.

    Raises:
        ValueError: the questions' vocabulary has no padding token.
    """

    def __init__(self, images: ImageProcessor, questions: Vocabulary, answers: Vocabulary) -> None:
        self.images, self.questions, self.answers = images, questions, answers
        limit = (questions.tokenizer.truncation or {}).get("max_length", MAX_TEXT_TOKENS)
        questions.tokenizer.enable_truncation(min(limit, MAX_TEXT_TOKENS), strategy="longest_first")
        questions.tokenizer.enable_padding(pad_id=questions.special_id("pad_token"))

    @classmethod
    def load(cls, folder: Path) -> Processor:
        """Read the files of a checkpoint folder."""
        options = _read_json(folder / "processor_config.json")["image_processor"]
        images = ImageProcessor(options["size"], options["image_mean"], options["image_std"])
        return cls(images, Vocabulary.load(folder), Vocabulary.load(folder / "answer_tokenizer"))

    def pixel_values(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """Pillow images -> (N, 3, H, W)."""
        return self.images.pixel_values(images)

    def encode_question(self, question: str, history: Sequence[Exchange] = ()) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask` and `token_type_ids` (0 the question, 1 what came before), each (1, T).

        The oldest exchanges are cut first when the whole is longer than `MAX_TEXT_TOKENS`.
        """
        return self.encode_questions([(question, history)])

    def encode_questions(self, batch: Sequence[tuple[str, Sequence[Exchange]]]) -> dict[str, Tensor]:
        """Several questions with their histories, padded on the right: each tensor (B, T)."""
        texts = [render(question, history) for question, history in batch]
        alone = not any(before for _, before in texts)
        encoded = self.questions.tokenizer.encode_batch([text for text, _ in texts] if alone else texts)
        return {
            "input_ids": torch.tensor([text.ids for text in encoded]),
            "attention_mask": torch.tensor([text.attention_mask for text in encoded]),
            "token_type_ids": torch.tensor([text.type_ids for text in encoded]),
        }

    def encode_answer(self, answer: str) -> list[int]:
        """Text -> answer ids, without special tokens."""
        return self.answers.tokenizer.encode(answer, add_special_tokens=False).ids

    def decode_answer(self, ids: Sequence[int] | Tensor) -> str:
        """Answer ids -> text, without special tokens."""
        return self.answers.tokenizer.decode(ids.tolist() if isinstance(ids, Tensor) else list(ids)).strip()


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
