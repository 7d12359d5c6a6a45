"""How sure an answer is: from the log-probabilities of its tokens to the chance that it counts.

The plain geometric mean of the probabilities says how fluent an answer is rather than how right. A logistic regression
on a few facts about them (Platt 1999), fitted by `visavis calibrate` on questions not trained on, comes nearer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Calibration:
    """Weights of the facts that `facts_of` gives, and a bias."""

    mean: float
    least: float
    first: float
    tokens: float
    bias: float


def facts_of(log_probabilities: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, least and first log-probability, and the logarithm of the number of tokens (at least one)."""
    mean = sum(log_probabilities) / len(log_probabilities)
    return mean, min(log_probabilities), log_probabilities[0], math.log(len(log_probabilities))


def confidence(log_probabilities: Sequence[float], calibration: Calibration | None = None) -> float | None:
    """The chance (0..1) that an answer of these tokens counts; uncalibrated the geometric mean of their probabilities.

    None for an answer without tokens.
    """
    if not log_probabilities:
        return None
    facts = facts_of(log_probabilities)
    if calibration is None:
        return math.exp(facts[0])
    *weights, bias = astuple(calibration)
    score = sum(weight * fact for weight, fact in zip(weights, facts, strict=True)) + bias
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))
