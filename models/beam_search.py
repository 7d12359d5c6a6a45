"""Beam search: the likeliest of the answers that a few likeliest beginnings lead to.

As `generate` with `num_beams` has it: hypotheses are compared by their mean log-probability a token, the end token
included. It knows neither engines nor words.
Shape letters: K beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.models.errors import ModelError
from visavis.models.visavis_model import Memory, VisavisModel


@dataclass(frozen=True)
class Beam:
    """The tokens of an answer, without the start token, and the model's log-probability of each."""

    token_ids: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """What hypotheses are compared by."""
        return sum(self.log_probabilities) / len(self.log_probabilities)

    def then(self, token: int, log_probability: float) -> Beam:
        """One token longer."""
        return Beam((*self.token_ids, token), (*self.log_probabilities, log_probability))


def beam_search(
    model: VisavisModel,
    memory: Memory,
    beams: int,
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    go_on: Callable[[], bool] = lambda: True,
) -> Beam:
    """The best hypothesis about a memory of one row; asked before every step, `go_on` may end it with what there is.

    Raises:
        ModelError: the model's scores are no numbers.
    """
    end, done, running = model.config.decoder.eos_token_id, list[Beam](), [Beam()]
    first_piece = model.config.decoder.first_piece
    memory = memory.rows(torch.zeros(beams, dtype=torch.long, device=model.device))
    cache = model.new_cache(beams, max_new_tokens)
    said = torch.full((beams, 1), model.config.decoder.bos_token_id, device=model.device)
    for length in range(1, max_new_tokens + 1):
        if not go_on():
            break
        scores = model.decode(said, memory, cache)[:, -1].float().log_softmax(-1)
        if length <= min_new_tokens:
            scores[:, end] = -torch.inf
        for row, token in enumerate(said[:, 0].tolist()):
            if token >= first_piece:
                scores[row, token] = -torch.inf
        running, parents = _longer(running, scores, done, beams, end, is_last=length == max_new_tokens)
        if not running or _is_decided(running, done, beams):
            break
        cache.choose(torch.tensor(parents, device=model.device))
        said = torch.tensor([[beam.token_ids[-1]] for beam in running], device=model.device)
    return max(done or running, key=lambda beam: beam.mean if beam.token_ids else 0.0)


def _longer(
    running: list[Beam], scores: Tensor, done: list[Beam], beams: int, end: int, *, is_last: bool
) -> tuple[list[Beam], list[int]]:
    """The best continuations that go on, and which row each continues; those that end join `done`, which keeps the best
    of them. Only what is among the first K may end: a worse one had better not."""
    known = torch.tensor([sum(beam.log_probabilities) for beam in running], device=scores.device)
    totals = (known[:, None] + scores[: len(running)]).flatten()
    if totals.isnan().any():
        raise ModelError("the model broke down on this question")
    best = totals.topk(min(2 * beams, len(totals))).indices.tolist()
    longer: list[Beam] = []
    parents: list[int] = []
    for rank, place in enumerate(best):
        row, token = divmod(place, scores.shape[1])
        beam = running[row].then(token, float(scores[row, token]))
        if token == end or is_last:
            done += [beam] * (rank < beams)
        elif len(longer) < beams:
            longer.append(beam)
            parents.append(row)
    done.sort(key=lambda beam: beam.mean, reverse=True)
    del done[beams:]
    return longer, parents


def _is_decided(running: list[Beam], done: list[Beam], beams: int) -> bool:
    """True if no beginning is better than the worst of K hypotheses, as it stands."""
    return len(done) == beams and max(beam.mean for beam in running) <= done[-1].mean
