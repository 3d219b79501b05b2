"""Which of many rows say or ask what another said before, for as many rows as there are."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

_SLOTS_A_KEY = 16
_MOST_SLOTS = 2**26
_AT_ONCE = 2**18  # so many keys take no more memory when they are simply counted


class Repeats:
    """Three keys of each row, in the order in which rows were added: 24 bytes a row, 4 more for each whose
    question is repeated, and at most 64 MiB while they are compared.

    Keys are those of chats.key_of, hashes of 64 bits: of ten million different ones two are alike in one of
    three hundred thousand files. Rows that say the same ask the same, so only those are compared whose
    question is repeated.
    """

    def __init__(self) -> None:
        self.rows, self.prompts, self.questions = array("q"), array("q"), array("q")
        self._asked_again = array("I")
        self._compared_count = 0

    @property
    def question_count(self) -> int:
        """How many different questions there are."""
        return len(self.questions) - sum(1 for _ in _pairs(self.questions, self._suspects()))

    def of_rows(self) -> Iterator[tuple[int, int]]:
        """For each row that was there before, the number of the first one and its own, from 0."""
        return _pairs(self.rows, self._suspects())

    def of_prompts(self) -> Iterator[tuple[int, int]]:
        """For each row whose prompt was there before, the number of the first one and its own, from 0."""
        return _pairs(self.prompts, self._suspects())

    def _suspects(self) -> Sequence[int]:
        """The numbers of all rows whose question is repeated, and maybe of a few more."""
        if self._compared_count != len(self.questions):
            again = _repeated(self.questions, len(self.questions))
            numbers = (number for number, key in enumerate(self.questions) if key in again)
            self._asked_again, self._compared_count = array("I", numbers), len(self.questions)
        return self._asked_again


def _pairs(keys: Sequence[int], numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of rows with these numbers: for each key that was there before, the number of the first and its own."""
    again = _repeated((keys[number] for number in numbers), len(numbers))
    first: dict[int, int] = {}
    for number in numbers:
        key = keys[number]
        if key in again and first.setdefault(key, number) != number:
            yield first[key], number


def _repeated(keys: Iterable[int], count: int) -> set[int]:
    """Those of `count` keys that are repeated; of very many, also a few that share a slot with another."""
    if count <= _AT_ONCE:
        return {key for key, times in Counter(keys).items() if times > 1}
    mask = min(1 << (count * _SLOTS_A_KEY).bit_length(), _MOST_SLOTS) - 1
    taken, again = bytearray(mask + 1), set()
    for key in keys:
        if taken[key & mask]:
            again.add(key)
        else:
            taken[key & mask] = 1
    return again
