"""How long the rows of a dataset are: a histogram of their tokens, and the rows that stand out."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator

BINS = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192)  # tokens: where each bin begins; the last has no end
_MIN_ROWS = 30  # fewer have no usual length
# A row stands out when the logarithm of its length is so many deviations from the median, and it is so many
# times as long or as short. The deviation is the median one, scaled to the standard deviation of a normal
# distribution, so that the rows that stand out do not hide one another.
_DEVIATIONS, _TIMES = 5.0, 4.0
_MAD_TO_SIGMA = 1.4826


class Lengths:
    """Token counts of rows, in the order in which they were added: 4 bytes each."""

    def __init__(self) -> None:
        self.tokens = array("I")

    @property
    def mean(self) -> float:
        """0 when there is no row."""
        return sum(self.tokens) / len(self.tokens) if self.tokens else 0.0

    def histogram(self) -> list[int]:
        """How many rows are in each of BINS."""
        counts = [0] * len(BINS)
        for tokens, rows in Counter(self.tokens).items():
            counts[bisect_right(BINS, tokens) - 1] += rows
        return counts

    def outliers(self) -> Iterator[tuple[int, int, int]]:
        """Rows far longer or shorter than the others: their number from 0, their tokens, the median."""
        if len(self.tokens) < _MIN_ROWS:
            return
        counts, sizes, off = Counter(self.tokens), Counter[float](), Counter[float]()
        for tokens, rows in counts.items():
            sizes[math.log(max(tokens, 1))] += rows
        middle = _median(sizes)
        for size, rows in sizes.items():
            off[abs(size - middle)] += rows
        far = max(_DEVIATIONS * _MAD_TO_SIGMA * _median(off), math.log(_TIMES))
        shortest, longest = math.exp(middle - far), math.exp(middle + far)
        if shortest <= min(counts) and max(counts) <= longest:
            return
        for number, tokens in enumerate(self.tokens):
            if tokens < shortest or tokens > longest:
                yield number, tokens, round(math.exp(middle))


def _median(counts: Counter[float]) -> float:
    """The lower median of values that occur so many times."""
    left = (sum(counts.values()) + 1) // 2
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0.0
