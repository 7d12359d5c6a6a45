"""Choosing tokens: exact small cases; equality with `generate` is in test_engine."""

from dataclasses import dataclass

import pytest
import torch

from visavis.models.errors import BadRequest
from visavis.models.generation import Region, SamplingParameters
from visavis.models.sampling import (
    create_generator,
    keep_top_k,
    keep_top_p,
    next_token,
    next_tokens,
    penalise_repetition,
)

SCORES = torch.tensor([0.5, 0.2, 0.2, 0.1]).log()
CPU = torch.device("cpu")


@dataclass
class Row:
    """An answer on its way; tokens 0 and 1 are bytes."""

    token_ids: list[int]
    sampling: SamplingParameters = SamplingParameters()  # noqa: RUF009 - frozen
    generator: torch.Generator | None = None
    end_token: int = 0
    first_piece: int = 2


def kept(scores: torch.Tensor) -> list[int]:
    return torch.isfinite(scores).nonzero().flatten().tolist()


def test_greedy_takes_the_likeliest() -> None:
    assert next_token(SCORES, [1], SamplingParameters(), create_generator(SamplingParameters(), CPU)) == 0


def test_top_k_keeps_ties() -> None:
    assert kept(keep_top_k(SCORES, 1)) == [0]
    assert kept(keep_top_k(SCORES, 2)) == [0, 1, 2]
    assert kept(keep_top_k(SCORES, 0)) == kept(keep_top_k(SCORES, 99)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("top_p", "count"), [(0.01, 1), (0.5, 1), (0.6, 2), (0.95, 4), (1.0, 4)])
def test_top_p_keeps_the_smallest_set(top_p: float, count: int) -> None:
    assert len(kept(keep_top_p(SCORES, top_p))) == count


def test_repetition_penalty_pushes_down_on_both_sides_of_zero() -> None:
    scores = penalise_repetition(torch.tensor([2.0, -2.0, 1.0]), [0, 1, 1], 2.0)
    assert scores.tolist() == [1.0, -4.0, 1.0]


def test_seed_repeats_and_no_seed_does_not_touch_the_global_one() -> None:
    seeded, free = SamplingParameters(temperature=1.0, seed=3), SamplingParameters(temperature=1.0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        generator = create_generator(seeded, CPU)
        draws.append([next_token(SCORES, [1], seeded, generator) for _ in range(20)])
    next_token(SCORES, [1], free, create_generator(free, CPU))
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 1
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"max_new_tokens": 0},
        {"seed": 2**64},
        {"stop": ("",)},
        {"stop": ("a",) * 9},
    ],
)
def test_values_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(BadRequest, match=next(iter(options))):
        SamplingParameters(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0.5, 0, 0.6, 1), (-1, 0, 1, 1), (0, 0, float("inf"), 1)])
def test_regions_lie_in_the_picture(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadRequest, match="region"):
        Region(*box)


def test_no_piece_of_a_word_is_said_twice_running_but_a_byte_may() -> None:
    logits = torch.tensor([[0.0, 1.0, 4.0, 2.0]]).expand(4, 4).log_softmax(-1)
    bytes_first = torch.tensor([[0.0, 4.0, 1.0, 2.0]]).log_softmax(-1)
    drawn = Row([1, 2], SamplingParameters(temperature=0.01), torch.Generator().manual_seed(1))
    chosen = next_tokens(logits, [Row([1]), Row([1, 2]), Row([1, 2, 3]), drawn])
    assert [token for token, _ in chosen] == [2, 3, 2, 3]
    assert chosen[1][1] == pytest.approx(float(logits[0, 3]))  # as probable as the model said
    assert next_tokens(bytes_first, [Row([1, 1])])[0][0] == 1
