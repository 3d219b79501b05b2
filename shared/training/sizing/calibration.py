"""What earlier runs say of the formulas: the ratio of what was observed to what was estimated.

The same observations give the same ratio, in whatever order they come. A run that went wrong somehow (a disk
that was full, a neighbour on the machine) moves it little: the median counts, and each ratio is clamped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from shared.training.sizing.gpus import Range

LEAST_RUNS = 3  # fewer say nothing
MOST_RUNS = 20  # the latest; older ones had another trainer
_CLAMP = Range(0.1, 10.0)  # a ratio beyond is an accident, and counts as the end of this range
# Half the width of the narrowed range, as a share. The deviation is the median one, scaled to the standard
# deviation of a normal distribution; runs agree by chance, so it is never thought to be less than a tenth.
_MAD_TO_SIGMA, _LEAST_SPREAD = 1.4826, 0.1


@dataclass(frozen=True)
class Expectation:
    """What the formulas alone say of a run: the middles, to be compared with the trainer's own figures."""

    gpu: str  # as the provider names it; cpu: this machine
    size_class: int
    seconds: float  # of the trainer, without the container around it
    memory_bytes: int | None  # as its libraries count it; None: they do not


def size_class(parameters: int) -> int:
    """Models of one class differ at most by a factor of two, and are compared with one another."""
    return round(math.log2(parameters))


@dataclass(frozen=True)
class Observation:
    """Observed over estimated, of one completed run; None: not observed."""

    duration_ratio: float | None
    memory_ratio: float | None


@dataclass(frozen=True)
class Ratio:
    """What an estimate is multiplied with."""

    middle: float
    spread: float  # share by which runs differ from the middle
    runs: int


@dataclass(frozen=True)
class Calibration:
    """What is known of runs of one method on one GPU. None: too few have been seen."""

    duration: Ratio | None = None
    memory: Ratio | None = None

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> Calibration:
        """The newest come first; those after MOST_RUNS are left alone."""
        latest = observations[:MOST_RUNS]
        return cls(
            duration=_ratio([run.duration_ratio for run in latest]),
            memory=_ratio([run.memory_ratio for run in latest]),
        )

    def notes(self, where: str) -> list[str]:
        """What the reader of an estimate is told."""
        if self.duration is None and self.memory is None:
            return []
        seen = [
            f"{name} by {ratio.runs} runs (x {ratio.middle:.2f})"
            for name, ratio in (("duration", self.duration), ("memory", self.memory))
            if ratio is not None
        ]
        return [f"Calibrated on {where}: {' and '.join(seen)}."]


def calibrated(estimate: Range, ratio: Ratio | None) -> Range:
    """The range around its middle times the ratio: as narrow as the runs agree, never wider than before."""
    if ratio is None:
        return estimate
    middle = estimate.middle * ratio.middle
    half = min(math.sqrt(estimate.high / estimate.low), 1 + ratio.spread)
    return Range(middle / half, middle * half)


def _ratio(observed: Sequence[float | None]) -> Ratio | None:
    values = sorted(
        min(max(value, _CLAMP.low), _CLAMP.high)
        for value in observed
        if value is not None and math.isfinite(value) and value > 0
    )
    if len(values) < LEAST_RUNS:
        return None
    middle = median(values)
    deviation = median(abs(value - middle) for value in values) / middle
    return Ratio(middle, max(_LEAST_SPREAD, 2 * _MAD_TO_SIGMA * deviation), len(values))
