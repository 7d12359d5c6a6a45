"""Confidence: the facts, the fit, and the figures that judge it, by hand."""

import math
import random

import pytest

from visavis.models.confidence import Calibration, confidence, facts_of
from visavis.models.training.calibration_fitting import (
    coverage_at,
    expected_calibration_error,
    fit_calibration,
    risk_coverage,
)


def test_without_a_calibration_it_is_the_geometric_mean() -> None:
    assert confidence([math.log(0.5), math.log(0.125)]) == pytest.approx(0.25)
    assert confidence([]) is None


def test_a_calibration_weighs_the_facts() -> None:
    spoken = [-0.5, -1.5]
    assert facts_of(spoken) == (-1.0, -1.5, -0.5, math.log(2))
    expected = 1 / (1 + math.exp(-(2 * -1.0 + 1 * -1.5 + 3 * -0.5 + 0.5)))
    assert confidence(spoken, Calibration(2, 1, 3, 0, 0.5)) == pytest.approx(expected)


def test_fitted_confidence_is_calibrated_on_made_up_answers() -> None:
    """Answers count with probability p**2, where p is their only token's."""
    chance = random.Random(1)
    answers = []
    for _ in range(4000):
        p = chance.uniform(0.05, 1)
        answers.append(([math.log(p)], chance.random() < p * p))
    plain = [(confidence(spoken) or 0, counts) for spoken, counts in answers]
    fitted = fit_calibration(answers[:2000])
    judged = [(confidence(spoken, fitted) or 0, counts) for spoken, counts in answers[2000:]]
    before, after = expected_calibration_error(plain), expected_calibration_error(judged)
    assert before is not None and after is not None
    assert before > 0.15 and after < before / 2


@pytest.mark.parametrize("answers", [[([-1.0], True)] * 20, [([-1.0], True), ([-2.0], False)]])
def test_too_little_to_fit_is_refused(answers: list) -> None:
    with pytest.raises(ValueError, match="at least ten answers"):
        fit_calibration(answers)


def test_error_and_coverage_by_hand() -> None:
    judged = [(0.95, True), (0.91, False), (0.25, False), (0.21, True)]
    assert expected_calibration_error(judged) == pytest.approx((abs(1.86 - 1) + abs(0.46 - 1)) / 4)
    assert risk_coverage(judged) == [(0.25, 1.0), (0.5, 0.5), (0.75, pytest.approx(1 / 3)), (1.0, 0.5)]
    assert coverage_at(judged, 0.8) == 0.25
    assert coverage_at(judged, 0.5) == 1.0
    assert coverage_at([(0.9, False)], 0.8) == 0.0
    assert (coverage_at([], 0.8), expected_calibration_error([])) == (None, None)
