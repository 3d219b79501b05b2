"""Whether an answer says more than its source: its numbers, names and quotations, one by one.

Strict and deterministic: no model is asked. A paraphrase passes; a number, name or quotation that the source
does not have, or has in another place, does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

from shared.generation.extractive.language import Language, detect
from shared.generation.grounding.names import known_names, unknown_names, unknown_quotes
from shared.generation.grounding.number import Number, agrees
from shared.generation.grounding.numbers import decimal_mark, numbers
from shared.generation.grounding.places import Places
from shared.generation.grounding.words import names_unit

_NOUNS_ARE_CAPITAL = "de"
_LISTED_A_RULE = 5
_PLACED_NUMBERS = 100  # each is compared with each of the source; an answer with more is a table
_RANGE = re.compile(r"\s*(?:[-\u2013\u2014]|to|until|till|bis|\u00e0|au?|al?|hasta|tot)\s*(?:um )?", re.I)


@dataclass(frozen=True)
class _Source:
    """What is read of a source once for all answers that rest on it."""

    text: str
    language: Language
    decimal_mark: str
    numbers: tuple[Number, ...]
    places: Places
    names: frozenset[str]

    def read(self, text: str) -> list[Number]:
        return numbers(text, self.language.code, self.decimal_mark)


@lru_cache(maxsize=64)
def _read(source: str) -> _Source:
    language = detect(source)
    mark = decimal_mark(source, language.code)
    stated = numbers(source, language.code, mark)
    return _Source(
        source, language, mark, tuple(stated), Places(source, stated, language.common), known_names(source)
    )


def ungrounded(answer: str, source: str, question: str = "", instruction: str = "") -> dict[str, list[str]]:
    """What the answer says beyond its source and what it was asked: rule -> at most five of what it is.

    source: all that the answer may rest on, the headings above it included. question: what the user has said
    so far. instruction: the system prompt. Rules: number_not_in_source, number_misplaced (the source has it,
    but another number stands in its place), name_not_in_source, quote_not_in_source. In German, where every
    noun is capital, names are not looked at.
    """
    known = _read(source)
    said_before = f"{question}\n{instruction}"
    asked = known.read(said_before)
    claimed = [number for number in known.read(answer) if number.is_claim]
    resolved = [_as_stated(number, known) for number in claimed]
    unknown = [
        number
        for number, found in zip(claimed, resolved, strict=True)
        if found is None and not any(agrees(number, one) for one in asked)
    ]
    in_source = [number for number in resolved if number is not None]
    wrong = known.places.misplaced(answer, in_source[:_PLACED_NUMBERS], question)
    wrong += _reversed_ranges(answer, in_source, known.numbers)
    is_german = known.language.code == _NOUNS_ARE_CAPITAL
    found = {
        "number_not_in_source": [number.said for number in unknown],
        "number_misplaced": [number.said for number in wrong],
        "name_not_in_source": []
        if is_german
        else unknown_names(answer, source, known.names | known_names(said_before), known.language),
        "quote_not_in_source": unknown_quotes(answer, f"{source}\n{said_before}"),
    }
    return {rule: list(dict.fromkeys(said))[:_LISTED_A_RULE] for rule, said in found.items() if said}


def _as_stated(claimed: Number, source: _Source) -> Number | None:
    """The number as the source has it: without its unit where that stands elsewhere. None: it has it not."""
    if any(agrees(claimed, number) for number in source.numbers):
        return claimed
    if claimed.kind == "label":
        is_there = re.search(rf"(?<!\w){re.escape(claimed.said)}(?!\w)", source.text, re.I) is not None
        return claimed if is_there else None
    if claimed.kind == "date":
        return claimed if _is_put_together(claimed, source.numbers) else None
    bare = replace(claimed, unit=None)
    is_bare = any(
        number.is_bare and number.unit is None and agrees(bare, number) for number in source.numbers
    )
    return bare if is_bare and claimed.unit is not None and names_unit(source.text, claimed.unit) else None


def _reversed_ranges(answer: str, claimed: Sequence[Number], stated: Sequence[Number]) -> list[Number]:
    """Ends of ranges that run down where the source names the lower end first: "from 17:00 to 10:00"."""
    return [
        end
        for first, last in pairwise(claimed)
        if first.kind == last.kind
        and first.order > last.order
        and _RANGE.fullmatch(answer, first.end, last.start)
        and any(agrees(last, low) and agrees(first, high) for low, high in pairwise(stated))
        for end in (first, last)
    ]


def _is_put_together(claimed: Number, stated: Sequence[Number]) -> bool:
    """Day and month of a date without a year, and the year from elsewhere."""
    day, month, year = claimed.date
    if year is None:
        return False
    day_and_month = replace(claimed, date=(day, month, None))
    only_year = Number(str(year), 0, 0, "amount", Decimal(year))
    return any(number.date == day_and_month.date for number in stated if number.kind == "date") and any(
        agrees(only_year, number) for number in stated
    )
