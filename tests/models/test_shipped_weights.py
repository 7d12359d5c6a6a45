"""The weights that ship, on pictures drawn by code: a floor under what they see and where they say that they looked."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from visavis.models.checkpoint_files import EMBEDDED
from visavis.models.engine import InferenceEngine
from visavis.models.generation import GenerationRequest
from visavis.models.grounding import answer_log_probability, word_heat
from visavis.models.loading import load_model
from visavis.models.processor import Processor
from visavis.models.replies import NOT_A_PHOTO
from visavis.models.training.scoring import turn_counts
from visavis.models.visavis_model import ImageState, Memory, VisavisModel

INKS = {"red": "#d02020", "blue": "#2040d0", "yellow": "#e8d020", "black": "#101010", "white": "#f8f8f8"}
GROUNDS = ("#508040", "#8090a0", "#c0b090")
SIDE = 224
QUESTION = "What color is the ball?"


@dataclass(frozen=True)
class Drawn:
    """A ball of a known colour in a known place."""

    color: str
    left: int
    top: int
    size: int

    def picture(self, ground: str) -> Image.Image:
        picture = Image.new("RGB", (SIDE, SIDE), ground)
        box = (self.left, self.top, self.left + self.size, self.top + self.size)
        ImageDraw.Draw(picture).ellipse(box, fill=INKS[self.color])
        return picture

    def holds(self, x: float, y: float, margin: float) -> bool:
        return all(
            start - margin <= place <= start + self.size + margin for start, place in ((self.left, x), (self.top, y))
        )


@dataclass(frozen=True)
class Scene:
    """A drawn ball, as the model holds it."""

    ball: Drawn
    state: ImageState

    @property
    def said(self) -> str:
        return f"It is {self.ball.color}."


@pytest.fixture(scope="module")
def shipped() -> Iterator[tuple[VisavisModel, Processor]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two would spin while others are at work
    yield load_model(EMBEDDED, "cpu")
    torch.set_num_threads(threads)


def memory_of(model: VisavisModel, processor: Processor, state: ImageState, mask: torch.Tensor | None = None) -> Memory:
    with torch.inference_mode():
        return model.fuse(state, **processor.encode_question(QUESTION), patch_mask=mask)


@pytest.fixture(scope="module")
def scenes(shipped: tuple[VisavisModel, Processor]) -> Iterator[list[Scene]]:
    model, processor = shipped
    chance, made = random.Random(5), []
    for number in range(10):
        size = chance.randint(56, 80)
        ball = Drawn(list(INKS)[number % len(INKS)], *(chance.randint(0, SIDE - size) for _ in range(2)), size)
        with torch.inference_mode():
            pixels = processor.pixel_values(ball.picture(chance.choice(GROUNDS)))
            state = model.image_state(model.encode_image(pixels))
        made.append(Scene(ball, state))
    yield made


def heat_of(shipped: tuple[VisavisModel, Processor], scene: Scene) -> torch.Tensor:
    """Where the whole answer came from, (G, G)."""
    words = word_heat(*shipped, memory_of(*shipped, scene.state), scene.said, scene.state.shown)
    return torch.tensor([word.rows for word in words]).mean(dim=0)


def hidden(patches: torch.Tensor, state: ImageState) -> torch.Tensor:
    """A mask (1, P) that hides patches (G, G) and the cells of the object tower that lie under them."""
    cells = F.interpolate(patches[None, None].float(), (7, 7), mode="area")[0, 0] > 0.5
    covered = torch.cat([torch.zeros(1, dtype=torch.bool), patches.flatten(), cells.flatten()])
    return ~F.pad(covered, (0, state.patches.shape[1] - len(covered)))[None]


def test_colors_of_drawn_balls_are_seen(shipped: tuple[VisavisModel, Processor], scenes: list[Scene]) -> None:
    model, processor = shipped
    end, right = model.config.decoder.eos_token_id, 0
    for scene in scenes:
        said = torch.tensor([[model.config.decoder.bos_token_id]])
        with torch.inference_mode():
            memory = memory_of(model, processor, scene.state)
            while said.shape[1] < 12 and said[0, -1] != end:
                said = torch.cat([said, model.decode(said, memory)[:, -1:].argmax(-1)], dim=1)
        right += turn_counts(processor.decode_answer(said[0]), scene.ball.color)
    assert right >= 0.5 * len(scenes)  # chance: a fifth


def test_heat_points_at_what_was_asked_about(shipped: tuple[VisavisModel, Processor], scenes: list[Scene]) -> None:
    """The pointing game (Zhang et al. 2016): the hottest cell lies on the ball."""
    hits = 0
    for scene in scenes:
        heat = heat_of(shipped, scene)
        row, column = divmod(int(heat.argmax()), heat.shape[1])
        cell = SIDE / heat.shape[0]
        hits += scene.ball.holds((column + 0.5) * cell, (row + 0.5) * cell, cell / 2)
    assert hits >= 0.8 * len(scenes)


def test_hiding_the_hottest_fifth_hurts_more_than_any_fifth(
    shipped: tuple[VisavisModel, Processor], scenes: list[Scene]
) -> None:
    model, processor = shipped
    chance, costs = torch.Generator().manual_seed(2), []
    for scene in scenes:
        heat = heat_of(shipped, scene)
        order = [heat.flatten().argsort(descending=True), torch.randperm(heat.numel(), generator=chance)]
        ids = torch.tensor([[model.config.decoder.bos_token_id, *processor.encode_answer(scene.said)]])
        fifths = [
            torch.zeros(heat.numel(), dtype=torch.bool).index_fill(0, one[: heat.numel() // 5], True) for one in order
        ]
        masks = [None, *(hidden(fifth.view_as(heat), scene.state) for fifth in fifths)]
        with torch.inference_mode():
            whole, hot, any_fifth = (
                answer_log_probability(model, memory_of(model, processor, scene.state, mask), ids) for mask in masks
            )
        costs.append((whole - hot, whole - any_fifth))
    assert sum(hot for hot, _ in costs) > 3 * sum(max(0.0, other) for _, other in costs)
    assert sum(hot > other for hot, other in costs) >= 0.8 * len(costs)


async def test_a_drawing_is_said_to_be_no_photo(shipped: tuple[VisavisModel, Processor], scenes: list[Scene]) -> None:
    drawing = io.BytesIO()
    scenes[0].ball.picture("white").save(drawing, "PNG")
    with InferenceEngine(*shipped) as engine:
        reply = await engine.generate(GenerationRequest("What is this?", (), engine.add_image(drawing.getvalue())))
    assert reply.text in NOT_A_PHOTO
