"""Fitting and judging confidence: does an answer that is called 70 % sure count in seven of ten cases?

Pure functions of numbers. Expected calibration error: Guo et al. 2017, with ten bins of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from visavis.models.confidence import Calibration, facts_of
from visavis.models.training.photo_fitting import logistic

BINS = 10


def fit_calibration(answers: Sequence[tuple[Sequence[float], bool]]) -> Calibration:
    """From the log-probabilities of each answer's tokens, and whether it counted.

    Raises:
        ValueError: all or none of them count, or there are fewer than ten.
    """
    counts = [counted for _, counted in answers]
    if len(answers) < BINS or len(set(counts)) < 2:
        raise ValueError("a calibration needs at least ten answers, some that count and some that do not")
    facts = torch.tensor([facts_of(spoken) for spoken, _ in answers])
    weights, bias = logistic(facts, torch.tensor(counts, dtype=torch.float32), decay=1e-3)
    return Calibration(*(round(value, 5) for value in [*weights.tolist(), float(bias)]))


def expected_calibration_error(judged: Sequence[tuple[float, bool]]) -> float | None:
    """The mean distance between confidence and accuracy, bin by bin; None of nothing."""
    if not judged:
        return None
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, counts in judged:
        bins.setdefault(min(BINS - 1, int(confidence * BINS)), []).append((confidence, counts))
    gaps = (abs(sum(confidence - counts for confidence, counts in held)) for held in bins.values())
    return sum(gaps) / len(judged)


def risk_coverage(judged: Sequence[tuple[float, bool]]) -> list[tuple[float, float]]:
    """(coverage, accuracy) when only the surest answers are given, from the surest one to all (El-Yaniv and Wiener)."""
    curve, right = [], 0
    for number, (_, counts) in enumerate(sorted(judged, key=lambda item: -item[0]), 1):
        right += counts
        curve.append((number / len(judged), right / number))
    return curve


def coverage_at(judged: Sequence[tuple[float, bool]], accuracy: float) -> float | None:
    """The largest share of answers, the surest first, of which `accuracy` count; None of nothing."""
    if not judged:
        return None
    return max((coverage for coverage, right in risk_coverage(judged) if right >= accuracy), default=0.0)
