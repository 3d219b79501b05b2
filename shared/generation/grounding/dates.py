"""Dates and times of the day around a number in digits."""

from __future__ import annotations

import re
from decimal import Decimal

from shared.generation.grounding.number import Date, Number
from shared.generation.grounding.words import NumberWords

_MONTH_AFTER = re.compile(r"\.?\s+(?:of\s+|de\s+)?([^\W\d_]+)")
_YEAR_AFTER = re.compile(r"\.?,?\s+(?:de\s+)?(\d{4})\b(?![.,:]\d)")
_MONTH_BEFORE = re.compile(r"([^\W\d_]+)\.?\s+$")
_DAY_WITH_DOT = re.compile(r"\.\s+([^\W\d_]+)")
_LAST_DAY, _YEARS = 31, range(1000, 3000)
_CLOCK = re.compile(r"(\d{1,2})([:.])(\d{2})(?::\d{2})?")
_MERIDIEM = re.compile(r"[ \u00a0\u202f]?([ap])\.?m\b\.?", re.I)
_O_CLOCK = re.compile(r"[ \u00a0\u202f]?(?:o['\u2019]clock|Uhr)\b", re.I)


def iso_date(said: str, start: int) -> Number:
    """Of "1862-03-14"."""
    year, month, day = map(int, said.split("-"))
    return Number(said, start, start + len(said), "date", date=(day, month, year))


def date_around(text: str, start: int, end: int, value: Decimal, words: NumberWords) -> Number | None:
    """The date that a day, or a year after its month, belongs to: "14 March 1862", "March 14", "March 1862".

    A day that does not exist is kept: such a date agrees with no other.
    """
    if value != int(value):
        return None
    return _day_first(text, start, end, value, words) or _month_first(text, start, end, value, words)


def time_at(text: str, said: str, start: int, end: int) -> Number | None:
    """The time of the day: "9:15", "5 pm", "17.20 Uhr"; None when the number is none."""
    meridiem = _MERIDIEM.match(text, end)
    after = meridiem or _O_CLOCK.match(text, end)
    clock = _CLOCK.fullmatch(said)
    if clock and (clock[2] == ":" or after):
        minutes = int(clock[1]) * 60 + int(clock[3])
    elif after and re.fullmatch(r"\d{1,2}", said):
        minutes = int(said) * 60
    else:
        return None
    if meridiem:
        is_morning = meridiem[1].lower() == "a"
        minutes = minutes if is_morning and minutes >= 780 else minutes % 720 + (0 if is_morning else 720)
    end = after.end() if after else end
    return Number(text[start:end], start, end, "time", Decimal(minutes))


def has_dotted_month(text: str, end: int, words: NumberWords) -> bool:
    """Whether a number is the day of "14. M\u00e4rz"."""
    after = _DAY_WITH_DOT.match(text, end)
    return after is not None and after[1].lower() in words.months


def _day_first(text: str, start: int, end: int, value: Decimal, words: NumberWords) -> Number | None:
    after = _MONTH_AFTER.match(text, end)
    month = _month(after[1], words) if after else None
    if after is None or month is None:
        return None
    year = _YEAR_AFTER.match(text, after.end())
    end = year.end() if year else after.end()
    return _date(text, start, end, (int(value), month, int(year[1]) if year else None))


def _month_first(text: str, start: int, end: int, value: Decimal, words: NumberWords) -> Number | None:
    before = _MONTH_BEFORE.search(text, max(0, start - 24), start)
    month = _month(before[1], words) if before else None
    if before is None or month is None:
        return None
    year = _YEAR_AFTER.match(text, end)
    if year or value <= _LAST_DAY:
        date: Date = (int(value), month, int(year[1]) if year else None)
        return _date(text, before.start(1), year.end() if year else end, date)
    if value in _YEARS:
        return _date(text, before.start(1), end, (None, month, int(value)))
    return None


def _date(text: str, start: int, end: int, date: Date) -> Number:
    return Number(text[start:end], start, end, "date", date=date)


def _month(word: str, words: NumberWords) -> int | None:
    """The month of that name or of its first three letters; in English it is capital: "may" is no month."""
    lower = word.lower()
    if word.islower() and "january" in words.months:
        return None
    if lower in words.months:
        return words.months[lower]
    return next((m for name, m in words.months.items() if len(lower) == 3 and name.startswith(lower)), None)
