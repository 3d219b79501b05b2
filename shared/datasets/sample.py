"""A few of many rows, each as likely as any other, without knowing beforehand how many there are."""

from __future__ import annotations

import math
from random import Random


class Sample:
    """At most `size` texts, equally spread over all that were counted; the same ones for the same texts.

    Li, "Reservoir-Sampling Algorithms of Time Complexity O(n(1 + log(N/n)))", 1994, algorithm L: it tells
    beforehand which text is taken next, so the others cost nothing.
    """

    def __init__(self, size: int) -> None:
        self.texts: list[str] = []
        self.next = 0  # the number of the text to be given to `take`, from 0
        self._size = size
        self._random = Random(1)
        self._weight = 1.0

    def take(self, text: str) -> None:
        """Takes the text whose number is `next`."""
        if len(self.texts) == self._size:
            self.texts[self._random.randrange(self._size)] = text
        else:
            self.texts.append(text)
            if len(self.texts) < self._size:
                self.next += 1
                return
        self._weight *= math.exp(math.log(1 - self._random.random()) / self._size)
        skipped = math.log(1 - self._random.random()) / math.log(1 - self._weight)
        self.next += 1 + int(skipped)
