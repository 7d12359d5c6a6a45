"""Is an accelerator as right as the processor? `python -m visavis.models.gpu_check`, also as `make gpu-check`.

The same questions about pictures drawn by code go to `generate` on the CPU and to the engine on the device, with and
without a recorded decode step; all in fp32, so that the tokens have to be equal. Speed is `bench --device cuda`.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from visavis.models.checkpoint_files import EMBEDDED
from visavis.models.engine import InferenceEngine
from visavis.models.errors import ModelError
from visavis.models.generation import GenerationRequest, SamplingParameters
from visavis.models.loading import load_model
from visavis.models.rivals import GenerateRival

PICTURES, TOKENS = 8, 24
QUESTIONS = ("what is in the picture?", "what color is it?", "is there a dog?", "describe the picture")


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if tokens differ, 2 if the device is not there."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    options = parser.parse_args(arguments)
    try:
        shares = check(options.model, options.device)
    except ModelError as error:
        print(f"visavis: {error}")
        return 2
    table = Table("engine in fp32", "answers equal to generate on the CPU", title=f"Equality on {options.device}")
    for name, share in shares.items():
        table.add_row(name, f"{share:.1%}")
    Console().print(table)
    if options.device == "cuda":
        print(f"most memory held at once: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
    return int(min(shares.values()) < 1)


def check(folder: Path, device: str) -> dict[str, float]:
    """The share of answers with the same text, for the engine with and without a recorded step.

    Raises:
        ModelError: the device is not there.
    """
    pictures = [_drawn(number) for number in range(PICTURES)]
    found = {
        name: asyncio.run(_answers(folder, device, pictures, compiled=compiled))
        for name, compiled in (("kernel by kernel", False), ("recorded", True))
    }
    turns = [(picture, question, (), TOKENS) for picture in pictures for question in QUESTIONS]
    rival = GenerateRival(folder, torch.get_num_threads())
    expected = [rival.answer([turn])[0] for turn in turns]
    return {name: sum(map(str.__eq__, answers, expected)) / len(expected) for name, answers in found.items()}


async def _answers(folder: Path, device: str, pictures: Sequence[bytes], *, compiled: bool) -> list[str]:
    model, processor = load_model(folder, device)
    model.encoder.photo_head = None
    sampling = SamplingParameters(max_new_tokens=TOKENS, min_new_tokens=TOKENS)
    with InferenceEngine(model, processor, compiled=compiled) as engine:
        engine.warm_up()
        ids = [engine.add_image(picture) for picture in pictures]
        requests = [GenerationRequest(question, (), one, sampling=sampling) for one in ids for question in QUESTIONS]
        return [answer.text for answer in await asyncio.gather(*map(engine.generate, requests))]


def _drawn(number: int) -> bytes:
    picture = Image.effect_noise((224, 224), 40.0 + number).convert("RGB")
    ImageDraw.Draw(picture).ellipse((20 * number, 30, 20 * number + 60, 120), fill=("red", "blue")[number % 2])
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
