"""Which of many keys came before, for as many rows as there are."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

_SLOTS_A_KEY = 16
_MOST_SLOTS = 2**26
_AT_ONCE = 2**18  # so many keys take no more memory when they are simply counted


class Repeats:
    """Keys in the order in which they were added: 8 bytes each, and at most 64 MiB while they are compared.

    A key is the hash of what it stands for, 64 bits: of ten million different ones two are alike in one of
    three hundred thousand files.
    """

    def __init__(self) -> None:
        self.keys = array("q")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def distinct_count(self) -> int:
        """How many different keys there are."""
        if len(self.keys) <= _AT_ONCE:
            return len(set(self.keys))
        return len(self.keys) - sum(1 for _ in self.pairs())

    def pairs(self) -> Iterator[tuple[int, int]]:
        """For each key that was there before, the number of the first one and its own, from 0."""
        numbered: Iterable[tuple[int, int]] = enumerate(self.keys)
        if len(self.keys) > _AT_ONCE:
            suspects = self._suspects()
            numbered = ((number, key) for number, key in numbered if key in suspects)
        first: dict[int, int] = {}
        for number, key in numbered:
            if first.setdefault(key, number) != number:
                yield first[key], number

    def _suspects(self) -> set[int]:
        """All keys that are repeated, and a few that share a slot with another one."""
        mask = min(1 << (len(self.keys) * _SLOTS_A_KEY).bit_length(), _MOST_SLOTS) - 1
        taken, suspects = bytearray(mask + 1), set()
        for key in self.keys:
            if taken[key & mask]:
                suspects.add(key)
            else:
                taken[key & mask] = 1
        return suspects
