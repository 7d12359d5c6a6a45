"""From the logits of one step to the next token: pure functions on one row, in the order and arithmetic of `generate`.

Shape letters: V vocabulary, S tokens so far. Scores are float32 (V,) on any device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visavis.models.generation import SamplingParameters


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
