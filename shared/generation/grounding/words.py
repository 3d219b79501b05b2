"""What numbers, months and units are called."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

_WORD = re.compile(r"[^\W\d_]+(?:/[^\W\d_]+)?|[%\u2030\u00b0$\u20ac\u00a3\u00a5\u20b9]+[CF]?")
_NUMBER_BEFORE = re.compile(r"\d[\s\u00a0\u202f-]?$")
_FALLBACK = "en"


@dataclass(frozen=True)
class NumberWords:
    """The words of one language, in lower case."""

    units: dict[str, int]  # of the language's numerals: zero to twenty
    tens: dict[str, int]  # twenty to ninety; they may be followed by one to nine
    ordinals: dict[str, int]
    months: dict[str, int]
    scales: dict[str, Decimal]  # what a number before them is multiplied by


@lru_cache(maxsize=32)
def number_words(language: str) -> NumberWords:
    """The words of the language with this code; English for one that has none here."""
    known = _data()["languages"]
    entry = known.get(language, known[_FALLBACK])
    return NumberWords(
        units=_numbered(entry["cardinals"], start=0),
        tens={word: 10 * place for word, place in _numbered(entry["tens"], start=2).items()},
        ordinals=_numbered(entry["ordinals"], start=1),
        months=_numbered(entry["months"], start=1),
        scales={word: Decimal(value) for word, value in entry["scales"].items()},
    )


@lru_cache(maxsize=1)
def unit_names() -> dict[str, str]:
    """What units are called and how they are written -> the unit. Words are in lower case."""
    return {
        name if _is_symbol(name) else name.lower(): unit
        for unit, names in _data()["units"].items()
        for name in names
    }


def unit_of(name: str) -> str | None:
    """The unit that is called or written so, in the singular or the plural; None when there is none."""
    known = unit_names()
    if name in known or len(name) <= 2:
        return known.get(name)
    lower = name.lower()
    return known.get(lower) or (known.get(lower[:-1]) if len(lower) > 4 and lower[-1] in "ns" else None)


def names_unit(text: str, unit: str) -> bool:
    """Whether the text names the unit apart from a number, as the head of a table does: "Weight (kg)"."""
    return any(
        unit_of(word[0]) == unit and not _NUMBER_BEFORE.search(text, max(0, word.start() - 3), word.start())
        for word in _WORD.finditer(text)
    )


def _is_symbol(name: str) -> bool:
    return len(name) <= 3


def _numbered(words: str, start: int) -> dict[str, int]:
    """A word that stands for none, because it means something else as well, is a dash."""
    return {word: place for place, word in enumerate(words.split(), start=start) if word != "-"}


@lru_cache(maxsize=1)
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads((Path(__file__).parent / "numbers.json").read_text(encoding="utf-8"))
    return data
