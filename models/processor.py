"""Pictures, questions and answers to tensors and back: one processor beside every checkpoint.

Questions are read with the text encoder's own word pieces, answers are written in byte-level BPE (Sennrich et al. 2016;
Radford et al. 2019), which keeps case and can spell anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import BatchEncoding, BatchFeature, ProcessorMixin

from visavis.models.prompt import Exchange, render

MAX_TEXT_TOKENS = 128


class VisavisProcessor(ProcessorMixin):
    """`image_processor`, `tokenizer` (questions) and `answer_tokenizer` (answers)."""

    answer_tokenizer: Any

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, answer_tokenizer: Any = None, **kwargs: Any):
        super().__init__(image_processor, tokenizer, answer_tokenizer, **kwargs)

    def pixel_values(self, images: Image.Image | Sequence[Image.Image]) -> Tensor:
        """Pillow images -> (N, 3, H, W)."""
        return self.image_processor(images)["pixel_values"]  # type: ignore[no-any-return]

    def encode_question(self, question: str, history: Sequence[Exchange] = ()) -> BatchEncoding:
        """`input_ids`, `attention_mask` and `token_type_ids` (0 the question, 1 what came before), each (1, T).

        The oldest exchanges are cut first when the whole is longer than `MAX_TEXT_TOKENS`.
        """
        return self.encode_questions([(question, history)])

    def encode_questions(self, batch: Sequence[tuple[str, Sequence[Exchange]]]) -> BatchEncoding:
        """Several questions with their histories, padded on the right: each tensor (B, T)."""
        texts, before = zip(*(render(question, history) for question, history in batch), strict=True)
        options = {"max_length": MAX_TEXT_TOKENS, "return_token_type_ids": True, "return_tensors": "pt"}
        if not any(before):
            return self.tokenizer(list(texts), truncation=True, padding=True, **options)  # type: ignore[no-any-return]
        return self.tokenizer(list(texts), list(before), truncation="longest_first", padding=True, **options)  # type: ignore[no-any-return]

    def text_tokens(self, question: str, history: Sequence[Exchange] = ()) -> int:
        """How many tokens the whole would have, uncut."""
        return len(self.tokenizer(*render(question, history))["input_ids"])

    def __call__(self, images: Any = None, text: Any = None, **_: Any) -> BatchFeature:
        """transformers' own calling form: pictures and questions (no history) to one feature dictionary."""
        features: dict[str, Any] = {}
        if images is not None:
            features["pixel_values"] = self.pixel_values(images)
        if text is not None:
            questions = [text] if isinstance(text, str) else list(text)
            features.update(self.encode_questions([(question, ()) for question in questions]))
        return BatchFeature(features)

    def decode_answer(self, ids: Sequence[int] | Tensor) -> str:
        """Answer ids -> text, without special tokens."""
        return self.answer_tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()  # type: ignore[no-any-return]
