"""What earlier runs change of an estimate, and what they cannot."""

from __future__ import annotations

from itertools import permutations

import pytest

from shared.training.sizing.calibration import LEAST_RUNS, MOST_RUNS, Calibration, Observation, calibrated
from shared.training.sizing.gpus import Range


def seen(*ratios: float | None) -> Calibration:
    return Calibration.of([Observation(duration_ratio=ratio, memory_ratio=None) for ratio in ratios])


def test_few_runs_say_nothing() -> None:
    assert seen(*[2.0] * (LEAST_RUNS - 1)) == Calibration()
    assert seen(2.0, None, None, 2.0, float("nan"), 0.0, -3.0) == Calibration()
    assert calibrated(Range(10, 40), None) == Range(10, 40)


def test_runs_that_agree_narrow_the_range_around_what_they_say() -> None:
    ratio = seen(1.48, 1.5, 1.52).duration
    assert ratio is not None
    known = calibrated(Range(10, 40), ratio)
    assert known.middle == pytest.approx(20 * 1.5)
    assert known.high / known.low == pytest.approx(1.1**2)
    assert "by 3 runs (x 1.50)" in seen(1.48, 1.5, 1.52).notes("L40S")[0]


def test_one_accident_moves_nothing() -> None:
    calm, disturbed = seen(1.0, 1.1, 1.2, 1.1, 1.0).duration, seen(1.0, 1.1, 1.2, 1.1, 1e9).duration
    assert calm is not None
    assert disturbed is not None
    assert disturbed.middle == calm.middle
    assert all(value is not None and value.middle <= 10 for value in [seen(1e9, 1e9, 1e9).duration])


def test_the_range_is_never_wider_than_the_formulas_leave_it() -> None:
    ratio = seen(0.2, 1.0, 5.0).duration
    known = calibrated(Range(10, 40), ratio)
    assert known.high / known.low <= 4


def test_the_order_and_older_runs_do_not_matter() -> None:
    assert len({seen(*order) for order in permutations((0.7, 1.0, 1.3, 4.0))}) == 1
    newest = [1.0] * MOST_RUNS
    assert seen(*newest, 9.0, 9.0, 9.0) == seen(*newest)
