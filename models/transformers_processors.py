"""The processors as transformers knows them: pictures, questions, chats and answers, in and out.

Everything is the plain processor's own (`processor`); serving and training never import this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BaseImageProcessor, BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

from visavis.models.image_processor import IMAGENET_MEAN, IMAGENET_STD, ImageProcessor
from visavis.models.processor import Processor, Vocabulary
from visavis.models.prompt import Exchange
from visavis.models.transformers_chat import read_chat


class VisavisImageProcessor(BaseImageProcessor):
    """`ImageProcessor` for transformers."""

    model_input_names = ["pixel_values"]  # noqa: RUF012

    def __init__(
        self,
        size: int = 224,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.image_mean, self.image_std = size, list(image_mean), list(image_std)

    def preprocess(self, images: Any, return_tensors: str | None = None, **_: Any) -> BatchFeature:
        """One Pillow image or several -> `pixel_values` (N, 3, size, size), float32."""
        pixels = ImageProcessor(self.size, self.image_mean, self.image_std).pixel_values(images)
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)


class VisavisProcessor(ProcessorMixin):
    """`Processor` for transformers: `image_processor`, `tokenizer` (questions) and `answer_tokenizer` (answers)."""

    answer_tokenizer: Any

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, answer_tokenizer: Any = None, **kwargs: Any):
        super().__init__(image_processor, tokenizer, answer_tokenizer, **kwargs)

    @classmethod
    def of(cls, processor: Processor) -> VisavisProcessor:
        """The same processor in this form, which knows how to save itself."""
        questions, answers = (
            PreTrainedTokenizerFast(tokenizer_object=vocabulary.tokenizer, **vocabulary.special_tokens)
            for vocabulary in (processor.questions, processor.answers)
        )
        return cls(VisavisImageProcessor(**asdict(processor.images)), questions, answers)

    def plain(self) -> Processor:
        """The same processor without transformers: what an engine takes."""
        images: Any = self.image_processor
        questions, answers = (
            Vocabulary(tokens.backend_tokenizer, tokens.special_tokens_map)
            for tokens in (self.tokenizer, self.answer_tokenizer)
        )
        return Processor(ImageProcessor(images.size, images.image_mean, images.image_std), questions, answers)

    def __call__(self, images: Any = None, text: Any = None, text_target: Any = None, **_: Any) -> BatchFeature:
        """Pictures and questions (without history) to one feature dictionary; answers (`text_target`) to `labels`."""
        features = self._features(_flat(images), [(question, ()) for question in _flat(text)])
        if text_target is not None:
            features["labels"] = self._labels(_flat(text_target))
        return features

    def _labels(self, answers: Sequence[str]) -> Tensor:
        """Answer ids with their end token, (B, S); -100 behind it."""
        plain = self.plain()
        end = plain.answers.special_id("eos_token")
        rows = [torch.tensor([*plain.encode_answer(answer), end]) for answer in answers]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)

    def apply_chat_template(self, conversation: Any, *_: Any, tokenize: bool = False, **__: Any) -> Any:
        """Chats as pipelines write them: with `tokenize` the features that `generate` takes, else the questions.

        There is no template in Jinja's form, since what was said before goes to a segment of its own (`prompt.render`).
        """
        alone = isinstance(conversation[0], Mapping)
        read = [read_chat(chat) for chat in ([conversation] if alone else conversation)]
        if tokenize:
            pictures = [picture for _, picture in read if picture is not None]
            return self._features(pictures, [(asked.question, asked.history) for asked, _ in read])
        questions = [asked.question for asked, _ in read]
        return questions[0] if alone else questions

    def _features(self, pictures: Sequence[Any], questions: Sequence[tuple[str, Sequence[Exchange]]]) -> BatchFeature:
        plain, features = self.plain(), dict[str, Any]()
        if pictures:
            features["pixel_values"] = plain.pixel_values(pictures)
        if questions:
            features |= plain.encode_questions(questions)
        return BatchFeature(features)

    def post_process_image_text_to_text(self, generated_outputs: Any, *_: Any, **__: Any) -> list[str]:
        """What a pipeline shows of `generate`'s ids, which are those of answers."""
        return self.batch_decode(generated_outputs)

    def decode(self, ids: Any, **_: Any) -> str:
        """The ids of an answer to its text, without special tokens."""
        return self.plain().decode_answer(ids)

    def batch_decode(self, rows: Any, **_: Any) -> list[str]:
        """What `generate` gives to texts."""
        return [self.decode(ids) for ids in rows]


def _flat(images: Any) -> list[Any]:
    """One picture, several, or a list of lists, as pipelines have them."""
    if not isinstance(images, list | tuple):
        return [] if images is None else [images]
    return [one for inner in images for one in _flat(inner)]
