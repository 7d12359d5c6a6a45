"""From the logits of one step to the next tokens: pure functions, in the order and arithmetic of `generate`.

Shape letters: R rows, V vocabulary. Scores are float32 on any device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from visavis.models.generation import SamplingParameters


class Chooser(Protocol):
    """How one row wants its tokens chosen; `token_ids` are those of its answer so far, start token included. None from
    `first_piece` on is said twice running."""

    sampling: SamplingParameters
    generator: torch.Generator | None
    token_ids: list[int]
    end_token: int
    first_piece: int


def next_tokens(logits: Tensor, rows: Sequence[Chooser]) -> list[tuple[int, float]]:
    """Choose a token for every row of (R, V): its id and the log-probability that the model gave it.

    The log-probability is NaN where the scores of a row are not numbers. Plain greedy rows are chosen all at once.
    """
    total = logits.logsumexp(-1)
    chosen = logits.argmax(-1)
    likeliest = chosen.tolist()
    special = [
        row for row, chooser in enumerate(rows) if not is_plain(chooser) or likeliest[row] == stutter_of(chooser)
    ]
    if special:
        sound = total.isfinite().tolist()
        for row in special:
            if sound[row]:
                chosen[row] = choose_token(logits[row], rows[row])
    said = logits.gather(1, chosen[:, None])[:, 0] - total
    return list(zip(chosen.tolist(), said.tolist(), strict=True))


def is_plain(chooser: Chooser) -> bool:
    """True if the likeliest token is what is wanted."""
    sampling = chooser.sampling
    return chooser.generator is None and sampling.repetition_penalty == 1.0 and not too_short(chooser)


def too_short(chooser: Chooser) -> bool:
    """True while the answer may not end yet."""
    return len(chooser.token_ids) <= chooser.sampling.min_new_tokens


def stutter_of(chooser: Chooser) -> int | None:
    """The token that may not come next, being the last one."""
    last = chooser.token_ids[-1]
    return last if last >= chooser.first_piece else None


def choose_token(scores: Tensor, chooser: Chooser) -> int:
    """Choose the next token of one row from raw scores (V,)."""
    ruled_out = [stutter_of(chooser), chooser.end_token if too_short(chooser) else None]
    for token in ruled_out:
        if token is not None:
            scores = scores.index_fill(0, torch.tensor(token, device=scores.device), -torch.inf)
    return next_token(scores, chooser.token_ids, chooser.sampling, chooser.generator)


def create_generator(parameters: SamplingParameters, device: torch.device) -> torch.Generator | None:
    """The source of chance of one answer; None when it is greedy."""
    if parameters.greedy:
        return None
    generator = torch.Generator(device)
    if parameters.seed is None:
        generator.seed()
    else:
        generator.manual_seed(parameters.seed)
    return generator


def next_token(
    scores: Tensor, token_ids: Sequence[int], parameters: SamplingParameters, generator: torch.Generator | None
) -> int:
    """Choose a token from raw scores (V,); `token_ids` are those of the answer so far, start token included."""
    scores = penalise_repetition(scores, token_ids, parameters.repetition_penalty)
    if generator is None:
        return int(scores.argmax())
    scores = keep_top_p(keep_top_k(scores / parameters.temperature, parameters.top_k), parameters.top_p)
    return int(torch.multinomial(scores.softmax(-1), num_samples=1, generator=generator))


def penalise_repetition(scores: Tensor, token_ids: Sequence[int], penalty: float) -> Tensor:
    """Push down tokens that were said before (CTRL, Keskar et al. 2019); 1.0 changes nothing."""
    if penalty == 1.0:
        return scores
    said = torch.tensor(sorted(set(token_ids)), device=scores.device)
    chosen = scores[said]
    return scores.scatter(0, said, torch.where(chosen < 0, chosen * penalty, chosen / penalty))


def keep_top_k(scores: Tensor, top_k: int) -> Tensor:
    """Leave the k likeliest tokens (and what ties with the last of them); 0 leaves all."""
    if top_k == 0:
        return scores
    smallest = torch.topk(scores, min(top_k, scores.shape[-1])).values[-1]
    return scores.masked_fill(scores < smallest, -torch.inf)


def keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    """Leave the smallest set of tokens that holds `top_p` of the probability (Holtzman et al. 2020), at least one."""
    if top_p == 1.0:
        return scores
    ascending, order = torch.sort(scores)
    dropped = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
    dropped[-1] = False
    return scores.masked_fill(torch.zeros_like(dropped).scatter(0, order, dropped), -torch.inf)
