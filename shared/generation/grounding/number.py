"""A number as a text states it, and when two of them say the same."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["amount", "ordinal", "time", "date", "label"]
Date = tuple[int | None, int | None, int | None]  # day, month, year; None: not told
_SHARES = ("%", "\u2030")


@dataclass(frozen=True)
class Number:
    """One number where it stands: text[start:end], its unit not included."""

    said: str
    start: int
    end: int
    kind: Kind
    value: Decimal = Decimal(0)  # of a time, minutes since midnight
    date: Date = (None, None, None)
    unit: str | None = None
    is_unit_shared: bool = False  # the unit stands behind the next number: 16 or 25 minutes
    is_bare: bool = False  # nothing follows that it could count
    is_claim: bool = True  # False: as often a pronoun or an adverb, so it supports others and claims nothing

    @property
    def order(self) -> tuple[Decimal, ...]:
        """Where it stands among numbers of its kind."""
        return tuple(Decimal(part or 0) for part in self.date[::-1]) if self.kind == "date" else (self.value,)


def agrees(claimed: Number, stated: Number) -> bool:
    """Whether what is claimed is what is stated: the same kind of number, value and unit."""
    if claimed.kind == "label" or stated.kind == "label":
        return claimed.said.casefold() == stated.said.casefold()
    if stated.kind == "date":
        return _is_part_of_date(claimed, stated.date)
    if claimed.kind != stated.kind:
        return _is_full_hour(claimed, stated) or _is_full_hour(stated, claimed)
    return claimed.value == stated.value and _same_unit(claimed, stated)


def _same_unit(claimed: Number, stated: Number) -> bool:
    if claimed.unit is None:
        return stated.is_unit_shared or stated.unit not in _SHARES  # 12 is not 12 %
    return claimed.unit == stated.unit


def _is_part_of_date(claimed: Number, date: Date) -> bool:
    if claimed.kind == "date":
        return all(one in (None, other) for one, other in zip(claimed.date, date, strict=True))
    day, _, year = date
    is_day = claimed.kind == "ordinal" and claimed.value == day
    return is_day or (claimed.kind == "amount" and claimed.unit is None and claimed.value == year)


def _is_full_hour(hour: Number, time: Number) -> bool:
    """ "from 10 to 17" and "from 10:00 to 17:00"."""
    is_pair = hour.kind == "amount" and time.kind == "time"
    return is_pair and hour.unit in (None, "h") and hour.value * 60 == time.value
