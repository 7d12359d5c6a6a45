"""How good a checkpoint is: asks it everything through the engine, as it is served (greedy), and scores what it says.

Later turns of a dialogue see the written answers before them; `blind` figures come from an all-grey picture. It knows
neither the rules of scoring (`scoring`, `caption_metrics`) nor the form of the files (`evaluation_items`).
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from visavis.models.checkpoint_files import shard_names, shown_name, weights_sha256
from visavis.models.engine import InferenceEngine
from visavis.models.generation import Completion, GenerationRequest, SamplingParameters
from visavis.models.loading import load_model
from visavis.models.precision import Precision, serve_with
from visavis.models.replies import NOT_A_PHOTO
from visavis.models.training.caption_metrics import check_installed
from visavis.models.training.evaluation_items import (
    Blank,
    Item,
    Section,
    blank,
    read_items,
    swap_pictures,
)
from visavis.models.training.evaluation_options import Answer, EvaluationOptions, Figures
from visavis.models.training.evaluation_probes import Answerer, measure_nonphotos, measure_reading, pictures_in
from visavis.models.training.evaluation_speed import measure_speed
from visavis.models.training.evaluation_summary import score_answers, summarise
from visavis.models.training.retrieval import measure_retrieval
from visavis.models.training.scoring import share
from visavis.models.words_in_pictures import WordReader

PHOTOS_AT_ONCE = 4
READ_PHOTOS = 200
SPEED_PHOTOS = 3
BLIND_SECTIONS = (Section.QUESTIONS, Section.DIALOGUES)
GREY = (128, 128, 128)


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
    tell = advance or (lambda done, total: None)
    sighted, blinded = ([item for item in items if (item.image is None) is blank] for blank in (False, True))
    with InferenceEngine(model, processor, model_name=model_dir.name, reader=WordReader.find()) as engine:
        photos = list(dict.fromkeys(item.image for item in sighted if item.image is not None))
        speed = asyncio.run(measure_speed(engine, model, processor, photos[:SPEED_PHOTOS])) if photos else None
        replies = asyncio.run(ask_all(engine, sighted, lambda done, _: tell(done, len(items)), beams=options.beams))
        probes = asyncio.run(_probe(engine, options, photos))
    model.encoder.photo_head = None  # a grey picture is no photo, and its questions are to be answered all the same
    with InferenceEngine(model, processor) as engine:
        replies += asyncio.run(ask_all(engine, blinded, lambda done, _: tell(len(sighted) + done, len(items))))
    answers = score_answers([*sighted, *blinded], replies)
    if options.nonphotos is not None:
        photo_replies = [answer.said for answer in answers if answer.item.image is not None]
        probes["nonphotos"]["false_alarms"] = share(said in NOT_A_PHOTO for said in photo_replies)
    figures = {**summarise(answers, options), **probes, "speed": speed, "model": describe_model(model_dir)}
    if options.retrieval and model.shared is not None:
        figures["retrieval"] = measure_retrieval(model, processor, captioned(items))
    return figures, answers


async def _probe(engine: Answerer, options: EvaluationOptions, photos: Sequence[Path]) -> Figures:
    """What is asked beside the files' items; reading needs the extra `ocr`."""
    found: Figures = {}
    if options.nonphotos is not None:
        found["nonphotos"] = await measure_nonphotos(engine, pictures_in(options.nonphotos, options.limit))
    if options.ocr:
        found["ocr"] = await measure_reading(engine, photos[:READ_PHOTOS])
    return found


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


async def ask_all(
    engine: Answerer, items: Sequence[Item], advance: Callable[[int, int], None], *, beams: int = 1
) -> list[Completion]:
    """Ask every item, photo by photo so that each is encoded once; replies in the order of `items`. Captions are
    searched for with so many `beams`.

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
                item = items[index]
                sampling = SamplingParameters(beams=beams if item.section is Section.CAPTIONS else 1)
                replies[index] = await engine.generate(
                    GenerationRequest(item.asked, item.history, image=sha256, sampling=sampling)
                )
                advance(len(replies), len(items))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(PHOTOS_AT_ONCE):
                workers.create_task(ask_photos())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [replies[index] for index in range(len(items))]


def describe_model(model_dir: Path) -> Figures:
    """The checkpoint's name, the bytes of its weights and their sha256 (of all shards in order of name)."""
    size = sum((model_dir / name).stat().st_size for name in shard_names(model_dir))
    return {"name": shown_name(model_dir), "bytes": size, "sha256": weights_sha256(model_dir)}


def _picture(image: Path | None) -> bytes:
    if image is not None:
        return image.read_bytes()
    grey = io.BytesIO()
    Image.new("RGB", (224, 224), GREY).save(grey, "PNG")
    return grey.getvalue()
