"""What the engine spends on a first answer and on a follow-up, measured on a few photos. Ratios, not seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from visavis.models.engine import InferenceEngine
from visavis.models.generation import GenerationRequest
from visavis.models.images import decode_picture
from visavis.models.processor import Processor
from visavis.models.visavis_model import VisavisModel

QUESTION, FOLLOW_UP = "What is in the picture?", "What color is it?"


async def measure_speed(
    engine: InferenceEngine, model: VisavisModel, processor: Processor, photos: Sequence[Path]
) -> dict[str, Any]:
    """`first_over_encoder`: time to the first word about a new photo over that of the image encoder alone (median).

    `followup_encoder_forwards`: how often the encoder ran again for a second question about the same photos. The
    photos must be new to the engine.
    """
    pictures = [photo.read_bytes() for photo in photos]
    _encode_s(model, processor, pictures[0])  # the first time is slower
    ratios = []
    for data in pictures:  # one right after the other, so that other load on the machine hits both alike
        encoder_s = _encode_s(model, processor, data)
        request = GenerationRequest(question=QUESTION, image=engine.add_image(data))
        ratios.append(await _first_word_s(engine, request) / encoder_s)
    before = engine.counters.encoder_forwards
    for data in pictures:
        await engine.generate(GenerationRequest(question=FOLLOW_UP, image=engine.add_image(data)))
    return {
        "first_over_encoder": statistics.median(ratios),
        "followup_encoder_forwards": engine.counters.encoder_forwards - before,
    }


def _encode_s(model: VisavisModel, processor: Processor, data: bytes) -> float:
    pixels = processor.pixel_values(decode_picture(data)).to(model.device, model.dtype)
    start = time.perf_counter()
    with torch.inference_mode():
        model.encode_image(pixels).patches.sum().item()  # .item() waits for an accelerator
    return time.perf_counter() - start


async def _first_word_s(engine: InferenceEngine, request: GenerationRequest) -> float:
    start = time.perf_counter()
    times = [time.perf_counter() - start async for _ in engine.stream(request)]
    return times[0]
