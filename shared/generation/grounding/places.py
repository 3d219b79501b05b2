"""Whether a number stands in an answer where it stands in the source, or where another number belongs.

A number that was swapped for another one of the same source occurs there, but among other words. So each
number of the answer is compared with every number of the source by the words around them: near words count
more than far ones, rare words more than common ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from shared.documents.markdown import blocks
from shared.documents.sentences import sentences
from shared.generation.grounding.number import Number, agrees

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?|\d+")
_WORD_OR_COMMA = re.compile(rf"{_WORD.pattern}|[,;:\u2013\u2014]")
_REACH, _REACH_CHARS = 14, 160  # words and characters on each side
_CLAUSE_DISTANCE = 3  # how many words a comma counts as
_OTHER_SIDE = 0.6  # the weight of a word that stands after the number here and before it there
_QUESTION_DISTANCE = 5.0  # how far the words of the question count as being from a number of the answer
_MARGIN, _LEAST = 1.5, 0.1  # how much better another place must fit
_MARGIN_TWICE = 1.05  # the same for a number that is claimed more often than it is stated
_MARGIN_SWAP = 1.05  # and for two numbers that would change places
_COMMON_WORTH = 0.35  # the weight of a common word beside that of another
_STEM_CHARS = 5


Around = dict[str, tuple[float, int]]  # stem of a word -> (weight, -1 before the number or 1 after it)


class Places:
    """The numbers of a source, each with the words of its sentence, list item or line of a table."""

    def __init__(self, source: str, stated: Sequence[Number], common: frozenset[str]) -> None:
        """common: words of the language that mean little by themselves."""
        self._numbers = stated
        self._around = _all_around(source, stated)
        counts = Counter(_stems(source))
        self._worth = {
            stem: (_COMMON_WORTH if stem in common else 1.0) / count for stem, count in counts.items()
        }

    def misplaced(self, answer: str, claims: Sequence[Number], question: str) -> list[Number]:
        """The claimed numbers that the source has, but in whose place there another number belongs."""
        asked: Around = {stem: (1 / _QUESTION_DISTANCE, 0) for stem in _stems(question)}
        fits = [
            self._fits(claim, {**asked, **around})
            for claim, around in zip(claims, _all_around(answer, claims), strict=True)
        ]
        wrong = {place for place, one in enumerate(fits) if _belongs_elsewhere(one, fits)}
        for (i, one), (j, other) in combinations(enumerate(fits), 2):
            if _are_swapped(one, other):
                wrong |= {i, j}
        return [claims[place] for place in sorted(wrong)]

    def _fits(self, claim: Number, around: Around) -> _Fits:
        fits = [_fit(around, there, self._worth) for there in self._around]
        is_own = [agrees(claim, number) for number in self._numbers]
        own = max((fit for fit, is_it in zip(fits, is_own, strict=True) if is_it), default=0.0)
        return _Fits(
            number=claim,
            at=fits,
            is_own=is_own,
            may_be=[_may_replace(claim, number) for number in self._numbers],
            own=own,
            own_place=fits.index(own) if own else None,
        )


@dataclass(frozen=True)
class _Fits:
    """How well a claimed number fits each place of the source."""

    number: Number
    at: list[float]
    is_own: list[bool]  # whether this number stands there
    may_be: list[bool]  # whether it can be taken for the number that stands there
    own: float  # the best fit of its own places; 0 when it has none
    own_place: int | None


def _may_replace(claimed: Number, stated: Number) -> bool:
    """Whether one can be taken for the other."""
    has_same_unit = claimed.unit is None or stated.unit in (None, claimed.unit)
    return stated.is_claim and stated.kind == claimed.kind and has_same_unit


def _belongs_elsewhere(one: _Fits, all_fits: Sequence[_Fits]) -> bool:
    """Whether a place that no other claim fills as well fits much better than its own."""
    others = [fits for fits in all_fits if fits is not one]
    free = [
        fit
        for place, fit in enumerate(one.at)
        if one.may_be[place]
        and not one.is_own[place]
        and not any(other.is_own[place] and other.at[place] >= fit for other in others)
    ]
    twice = sum(agrees(one.number, other.number) for other in others) >= sum(one.is_own)
    margin = _MARGIN_TWICE if twice else _MARGIN
    return max(free, default=0.0) > one.own * margin + _LEAST


def _are_swapped(one: _Fits, other: _Fits) -> bool:
    """Whether the two would fit better if each stood in the other's place."""
    here, there = one.own_place, other.own_place
    if (
        here is None
        or there is None
        or one.is_own[there]
        or other.is_own[here]
        or one.number.kind != other.number.kind
    ):
        return False
    return one.at[there] + other.at[here] > (one.own + other.own) * _MARGIN_SWAP + _LEAST


def _fit(around: Around, there: Around, worth: dict[str, float]) -> float:
    total = 0.0
    for stem, (weight, side) in around.items():
        if stem in there:
            there_weight, there_side = there[stem]
            same_side = 1.0 if side * there_side >= 0 else _OTHER_SIDE
            total += same_side * (weight * there_weight) ** 0.5 * worth[stem]
    return total


def _all_around(text: str, found: Sequence[Number]) -> list[Around]:
    spans = _spans(text) if found else []
    return [_around(text, number, spans) for number in found]


def _around(text: str, number: Number, spans: Sequence[tuple[int, int]]) -> Around:
    start, end = next(((start, end) for start, end in spans if start <= number.start < end), (0, len(text)))
    around: Around = {}
    before = _WORD_OR_COMMA.findall(text, max(start, number.start - _REACH_CHARS), number.start)[::-1]
    after = _WORD_OR_COMMA.findall(text, number.end, min(end, number.end + _REACH_CHARS))
    for side, words in ((-1, before), (1, after)):
        distance = 0
        for word in words[:_REACH]:
            if not word[0].isalnum():
                distance += _CLAUSE_DISTANCE
                continue
            distance += 1
            stem = _stem(word)
            if 1 / distance > around.get(stem, (0.0, 0))[0]:
                around[stem] = (1 / distance, side)
    return around


def _spans(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for block in blocks(text):
        if block.kind in ("paragraph", "item"):
            found += sentences(text, block.start, block.end)
        else:
            found += [line.span() for line in re.compile(r"[^\n]+").finditer(text, block.start, block.end)]
    return found


def _stems(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text)]


def _stem(word: str) -> str:
    """The beginning of the word without an ending in s: enough to know it again when it is inflected."""
    lower = word.lower()
    lower = lower[:-1] if len(lower) > 3 and lower.endswith("s") else lower
    return lower[:_STEM_CHARS]
