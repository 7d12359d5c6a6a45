"""How good a checkpoint is: asks it everything through the engine, as it is served (greedy), and scores what it says.

Later turns of a dialogue see the written answers before them; `blind` figures come from an all-grey picture. It knows
neither the rules of scoring (`scoring`, `caption_metrics`) nor the form of the files (`evaluation_items`).
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from visavis.models.checkpoint_files import shard_names, shown_name, weights_sha256
from visavis.models.engine import InferenceEngine
from visavis.models.generation import Completion, GenerationRequest
from visavis.models.loading import load_model
from visavis.models.precision import Precision, serve_with
from visavis.models.training.caption_metrics import check_installed, score_captions
from visavis.models.training.evaluation_items import (
    Blank,
    Item,
    Section,
    blank,
    read_items,
    read_training_answers,
    swap_pictures,
)
from visavis.models.training.evaluation_speed import measure_speed
from visavis.models.training.retrieval import measure_retrieval
from visavis.models.training.scoring import AnswerPrior, TurnScore, dialogue_scores, exact_match, share, turn_counts
from visavis.models.words_in_pictures import WordReader

PHOTOS_AT_ONCE = 4
SPEED_PHOTOS = 3
TRAINING_QUESTIONS = "questions.train.jsonl"
BLIND_SECTIONS = (Section.QUESTIONS, Section.DIALOGUES)
GREY = (128, 128, 128)
# Measured by later versions: until then they are None.
UNMEASURED = ("nonphotos", "calibration", "ocr")

Figures = dict[str, Any]


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate on. An absent file leaves its figures None; `limit` is the most items taken of each file."""

    captions: Path | None = None
    questions: Path | None = None
    dialogues: Path | None = None
    things: Path | None = None
    nonphotos: Path | None = None
    retrieval: bool = False
    swap_images: bool = False
    blank: Blank | None = None
    predictions: Path | None = None
    limit: int | None = None

    @property
    def files(self) -> dict[Section, Path]:
        """The files that were given."""
        named = {section: getattr(self, section.value) for section in Section}
        return {section: file for section, file in named.items() if file is not None}

    @property
    def is_probe(self) -> bool:
        """Whether pictures or questions are tampered with; then there are no further blind figures."""
        return self.swap_images or self.blank is not None


@dataclass(frozen=True)
class Answer:
    """What was said to an item; `scored` is the CIDEr of a caption, else whether the reply counts."""

    item: Item
    said: str
    confidence: float | None
    scored: bool | float


class Answerer(Protocol):
    """The part of `InferenceEngine` that an evaluation uses."""

    def add_image(self, data: bytes) -> str: ...

    async def generate(self, request: GenerationRequest) -> Completion: ...


def evaluate(
    model_dir: Path,
    options: EvaluationOptions,
    *,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    advance: Callable[[int, int], None] | None = None,
) -> tuple[Figures, list[Answer]]:
    """Evaluate the checkpoint in `model_dir`: all figures by name (None where there is none), and every answer.

    Retrieval is None for a model without a shared space of pictures and texts.

    `advance` is called with (answers so far, answers in all).

    Raises:
        ModelError: the checkpoint cannot be loaded, or fails at a picture.
        ValueError: a file does not have the form of its section.
        OSError: a file cannot be read.
        ModuleNotFoundError: captions are to be scored and the extra `train` is not installed.
    """
    items = collect_items(options)
    if options.captions is not None:
        check_installed()
    model, processor = load_model(model_dir, device)
    serve_with(model, precision)
    with InferenceEngine(model, processor, model_name=model_dir.name, reader=WordReader.find()) as engine:
        photos = list(dict.fromkeys(item.image for item in items if item.image is not None))[:SPEED_PHOTOS]
        speed = asyncio.run(measure_speed(engine, model, processor, photos)) if photos else None
        replies = asyncio.run(ask_all(engine, items, advance or (lambda done, total: None)))
    answers = score_answers(items, replies)
    figures = {**summarise(answers, options), "speed": speed, "model": describe_model(model_dir)}
    if options.retrieval and model.shared is not None:
        figures["retrieval"] = measure_retrieval(model, processor, captioned(items))
    return figures, answers


def captioned(items: Sequence[Item]) -> list[tuple[Path, Sequence[str]]]:
    """Every photo that has captions, with them.

    Raises:
        ValueError: there are none.
    """
    found: list[tuple[Path, Sequence[str]]] = [
        (item.image, item.expected) for item in items if item.section is Section.CAPTIONS and item.image is not None
    ]
    if not found:
        raise ValueError("retrieval needs a file of captions")
    return found


def collect_items(options: EvaluationOptions) -> list[Item]:
    """All that will be asked: the items of every file, then those of `BLIND_SECTIONS` again with a grey picture."""
    items: list[Item] = []
    for section, file in options.files.items():
        part = read_items(section, file, options.limit)
        part = swap_pictures(part) if options.swap_images else part
        items += part if options.blank is None else blank(part, options.blank)
    if not options.is_probe:
        items += blank([item for item in items if item.section in BLIND_SECTIONS], Blank.IMAGE)
    return items


async def ask_all(engine: Answerer, items: Sequence[Item], advance: Callable[[int, int], None]) -> list[Completion]:
    """Ask every item, photo by photo so that each is encoded once; replies in the order of `items`.

    Raises:
        ModelError: the first that a question met; the others are given up.
    """
    by_photo: dict[Path | None, list[int]] = {}
    for index, item in enumerate(items):
        by_photo.setdefault(item.image, []).append(index)
    replies: dict[int, Completion] = {}
    photos = iter(by_photo.items())

    async def ask_photos() -> None:
        for image, indices in photos:  # shared by the workers: each takes the next photo
            sha256 = engine.add_image(_picture(image))
            for index in indices:
                request = GenerationRequest(question=items[index].asked, history=items[index].history, image=sha256)
                replies[index] = await engine.generate(request)
                advance(len(replies), len(items))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(PHOTOS_AT_ONCE):
                workers.create_task(ask_photos())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [replies[index] for index in range(len(items))]


def score_answers(items: Sequence[Item], replies: Sequence[Completion]) -> list[Answer]:
    """Judge each reply by the rules of its section."""
    captions = [index for index, item in enumerate(items) if item.section is Section.CAPTIONS]
    cider: Mapping[int, float] = {}
    if captions:
        scores = score_captions([replies[i].text for i in captions], [items[i].expected for i in captions])
        cider = dict(zip(captions, scores.each_cider, strict=True))
    return [
        Answer(item, reply.text, reply.confidence, cider[index] if index in cider else _counts(item, reply.text))
        for index, (item, reply) in enumerate(zip(items, replies, strict=True))
    ]


def summarise(answers: Sequence[Answer], options: EvaluationOptions) -> Figures:
    """The figures of every section; None for what was not asked or is not measured yet."""
    figures: Figures = dict.fromkeys([*(section.value for section in Section), "retrieval", *UNMEASURED])
    for section in options.files:
        part = [answer for answer in answers if answer.item.section is section]
        plain = part if options.is_probe else [answer for answer in part if answer.item.image is not None]
        blind = None if options.is_probe else _accuracy([answer for answer in part if answer.item.image is None])
        figures[section] = _SUMMARIES[section](plain, blind, options)
    return figures


def describe_model(model_dir: Path) -> Figures:
    """The checkpoint's name, the bytes of its weights and their sha256 (of all shards in order of name)."""
    size = sum((model_dir / name).stat().st_size for name in shard_names(model_dir))
    return {"name": shown_name(model_dir), "bytes": size, "sha256": weights_sha256(model_dir)}


def _summarise_captions(answers: Sequence[Answer], _: float | None, __: EvaluationOptions) -> Figures:
    scores = score_captions([answer.said for answer in answers], [answer.item.expected for answer in answers])
    bleu = {f"bleu{order}": value for order, value in enumerate(scores.bleu, 1)}
    return {**bleu, "rouge_l": scores.rouge_l, "cider": scores.cider, "n": len(answers)}


def _summarise_questions(answers: Sequence[Answer], blind: float | None, options: EvaluationOptions) -> Figures:
    training = options.questions.with_name(TRAINING_QUESTIONS) if options.questions else None
    prior = None
    if training is not None and training.is_file():
        guess = AnswerPrior(read_training_answers(training)).answer
        prior = share(exact_match(guess(answer.item.question), answer.item.expected) for answer in answers)
    return {"accuracy": _accuracy(answers), "prior": prior, "blind": blind, "n": len(answers)}


def _summarise_dialogues(answers: Sequence[Answer], blind: float | None, _: EvaluationOptions) -> Figures:
    items = [answer.item for answer in answers]
    turns = [TurnScore(a.item.expected[0], a.item.position, bool(a.scored)) for a in answers]
    gold = share(turn_counts(item.written or "", item.expected[0]) for item in items)
    return {**dialogue_scores(turns), "blind": blind, "gold": gold}


def _summarise_things(answers: Sequence[Answer], _: float | None, __: EvaluationOptions) -> Figures:
    return {"accuracy": _accuracy(answers), "n": len(answers)}


_SUMMARIES: Mapping[Section, Callable[[Sequence[Answer], float | None, EvaluationOptions], Figures]] = {
    Section.CAPTIONS: _summarise_captions,
    Section.QUESTIONS: _summarise_questions,
    Section.DIALOGUES: _summarise_dialogues,
    Section.THINGS: _summarise_things,
}


def _accuracy(answers: Sequence[Answer]) -> float | None:
    return share(bool(answer.scored) for answer in answers)


def _counts(item: Item, said: str) -> bool:
    if item.section is Section.DIALOGUES:
        return turn_counts(said, item.expected[0])
    return exact_match(said, item.expected)


def _picture(image: Path | None) -> bytes:
    if image is not None:
        return image.read_bytes()
    grey = io.BytesIO()
    Image.new("RGB", (224, 224), GREY).save(grey, "PNG")
    return grey.getvalue()
