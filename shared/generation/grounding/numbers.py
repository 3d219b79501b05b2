"""The numbers that a text states: in digits or in words, with their units; dates, times and ordinals."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from shared.generation.grounding.dates import date_around, has_dotted_month, iso_date, time_at
from shared.generation.grounding.number import Number
from shared.generation.grounding.spelled import spelled_number
from shared.generation.grounding.words import NumberWords, number_words, unit_of

_DIGITS = r"\d+(?:[.,:\u2019']\d+|[\u00a0\u202f\u2009 ]\d{3}(?!\d))*"
_TOKEN = re.compile(
    r"(?P<iso>\b\d{4}-\d{2}-\d{2}\b)"
    # A number that is read letter by letter: SHA-256, v2.1, 10.0.0.1, 3/4, #12, the 1950s.
    r"|(?P<label>\b[^\W\d_][\w-]{0,60}\d[\w-]*(?:\.\d+)*|\b\d+(?:\.\d+){2,}\b|\b\d+(?:/\d+)+\b|#\d+|\b\d{3}0s\b)"
    rf"|(?P<digits>(?:(?<![\w)])[-\u2212+])?{_DIGITS})(?P<suffix>[^\W\d_]+\b)?"
    r"|(?P<word>[^\W\d_]+(?:['\u2019-][^\W\d_]+)*)"
)
_FRACTIONS = {"\u00bc": Decimal("0.25"), "\u00bd": Decimal("0.5"), "\u00be": Decimal("0.75")}
_ORDINAL_SUFFIX = re.compile(r"(?:st|nd|rd|th|er|re|\u00e8re|e|\u00e8me|de|ste|\u00ba|\u00aa)", re.I)
_SCALE_SUFFIXES = {"k": Decimal(1000), "K": Decimal(1000), "M": Decimal(10**6), "bn": Decimal(10**9)}
_SCALE_AFTER = re.compile(r"[ \u00a0-]([^\W\d_]+)\.?")
_SHARE_AFTER = re.compile(r"[ \u00a0\u202f]?[%\u2030]")
_UNIT_AFTER = re.compile(
    r"[\s\u00a0\u202f]?-?(?:(?P<symbol>[%\u2030\u00b0$\u20ac\u00a3\u00a5\u20b9](?:[CF]\b)?|\u2103|\u2109)"
    r"|(?P<words>[^\W\d_]+[\u00b2\u00b32]?(?:/[^\W\d_]+)?(?:[ -][^\W\d_]+){0,2}))"
)
_CURRENCY_BEFORE = re.compile(r"(?:US\$|[$\u20ac\u00a3\u00a5\u20b9]|\b(?:USD|EUR|GBP|CHF|JPY|INR))\s?$")
_COUNTED = re.compile(r"\s*[-\u2013]?\s*[^\W_]|\s?[%\u2030\u00b0$\u20ac\u00a3]")
_JOINED = re.compile(
    r"\s*(?:,|-|\u2013|\u2014|/|and|or|to|und|oder|bis|et|ou|\u00e0|y|o|a|e|en|of)?\s*", re.I
)
_LIST_NUMBER = re.compile(
    r"^[ \t>*_#-]*(?:step |schritt |\u00e9tape |paso )?\(?(\d{1,2})[.):](?=\s|\*)", re.I | re.M
)
# A mark that cannot part groups of three, and so parts the fraction.
_FRACTION_MARK = re.compile(r"(?<![\w.,])\d+([.,])(?!\d{3}\b)\d+(?![\w.,]?\d)|\d[.,]\d{3}([.,])\d+")


def decimal_mark(text: str, language: str) -> str:
    """What parts the fraction from the whole in this text, "." or ",": as its numbers or its language say."""
    marks = Counter(match[1] or match[2] for match in _FRACTION_MARK.finditer(text))
    if marks["."] != marks[","]:
        return max(marks, key=lambda mark: marks[mark])
    return "," if language in ("de", "fr", "es", "it", "pt", "nl", "pl", "sv", "ru", "el") else "."


def numbers(text: str, language: str = "en", mark: str = ".") -> list[Number]:
    """Every number of the text in the order of reading, but those that count the items of a list.

    mark: what parts the fraction from the whole.
    """
    listed = _list_numbers(text)
    found = [n for n in _Reader(text, number_words(language), mark).read() if n.start not in listed]
    for place in range(len(found) - 2, -1, -1):
        found[place] = _with_shared_unit(text, found[place], found[place + 1])
    return found


class _Reader:
    def __init__(self, text: str, words: NumberWords, mark: str) -> None:
        self._text = text
        self._words = words
        self._mark = mark
        self._grouping = "," if mark == "." else "."

    def read(self) -> Iterator[Number]:
        at = 0
        while match := _TOKEN.search(self._text, at):
            number = self._number(match)
            at = match.end() if number is None else max(number.end, match.end())
            if number is not None:
                yield number

    def _number(self, match: re.Match[str]) -> Number | None:
        if match["iso"]:
            return iso_date(match[0], match.start())
        if match["label"]:
            return _label(match)
        if match["digits"]:
            return self._of_digits(match)
        number = spelled_number(self._text, match, self._words)
        if number is None or number.kind == "time":
            return number
        if number.kind == "ordinal":
            return self._date(number.start, number.end, number.value) or number
        return self._with_unit(number)

    def _of_digits(self, match: re.Match[str]) -> Number:
        text, suffix, start, end = self._text, match["suffix"] or "", match.start(), match.end("digits")
        share = _SHARE_AFTER.match(text, end)
        if share is None and (time := time_at(text, match["digits"], start, end)):
            return time
        value = self._value(match["digits"])
        if value is None:
            end = share.end() if share else match.end()
            return Number(text[start:end], start, end, "label")
        is_ordinal = _ORDINAL_SUFFIX.fullmatch(suffix) is not None
        end = match.end() if is_ordinal else end
        if (is_ordinal or not suffix) and (date := self._date(start, end, value)):
            return date
        if is_ordinal or has_dotted_month(text, end, self._words):
            return Number(text[start:end], start, end, "ordinal", value)
        if suffix in _SCALE_SUFFIXES:
            value, end = value * _SCALE_SUFFIXES[suffix], match.end()
        elif suffix and unit_of(suffix) is None:
            return _label(match)
        elif not suffix and (scale := self._scale(end)):
            value, end = value * scale[0], scale[1]
        elif half := _FRACTIONS.get(text[end : end + 1]):
            value, end = value + half, end + 1
        return self._with_unit(Number(text[start:end], start, end, "amount", value))

    def _value(self, said: str) -> Decimal | None:
        """None when it is no plain number."""
        plain = re.sub("[\u00a0\u202f\u2009 '\u2019]", "", said).replace("\u2212", "-")
        grouping, mark = re.escape(self._grouping), re.escape(self._mark)
        if re.fullmatch(rf"[-+]?\d{{1,3}}(?:{grouping}\d{{3}})+(?:{mark}\d+)?", plain):
            plain = plain.replace(self._grouping, "")
        elif re.fullmatch(rf"[-+]?\d+{grouping}(?:\d{{1,2}}|\d{{4,}})", plain):
            plain = plain.replace(self._grouping, ".")  # no group of three: it parts the fraction after all
        elif self._grouping in plain:
            return None
        try:
            return Decimal(plain.replace(self._mark, "."))
        except InvalidOperation:
            return None

    def _date(self, start: int, end: int, value: Decimal) -> Number | None:
        date = date_around(self._text, start, end, value, self._words)
        is_plain = date is not None and not self._is_multiplied(end) and not self._is_multiplied(date.end)
        return date if is_plain else None

    def _is_multiplied(self, end: int) -> bool:
        """Whether a number that ends here is a share or goes on: 12 %, 12 million."""
        return _SHARE_AFTER.match(self._text, end) is not None or self._scale(end) is not None

    def _scale(self, end: int) -> tuple[Decimal, int] | None:
        after = _SCALE_AFTER.match(self._text, end)
        scale = self._words.scales.get(after[1].lower()) if after else None
        return (scale, after.end()) if after and scale else None

    def _with_unit(self, number: Number) -> Number:
        is_bare = _COUNTED.match(self._text, number.end) is None
        unit = None
        if before := _CURRENCY_BEFORE.search(self._text, max(0, number.start - 5), number.start):
            unit = unit_of(before[0].strip())
        elif after := _UNIT_AFTER.match(self._text, number.end):
            unit = unit_of(after["symbol"]) if after["symbol"] else _longest_unit(after["words"])
        return replace(number, unit=unit, is_bare=is_bare)


def _label(match: re.Match[str]) -> Number:
    return Number(match[0], match.start(), match.end(), "label")


def _longest_unit(words: str) -> str | None:
    """The unit that the first words name: "sea miles" rather than "sea"."""
    parts = re.split("[ -]", words)
    names = (" ".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((unit for name in names if (unit := unit_of(name))), None)


def _with_shared_unit(text: str, one: Number, following: Number) -> Number:
    """ "16 or 25 minutes": the first has the unit of the second."""
    is_pair = one.kind == "amount" == following.kind and one.unit is None and following.unit is not None
    if is_pair and _JOINED.fullmatch(text, one.end, following.start):
        return replace(one, unit=following.unit, is_unit_shared=True)
    return one


def _list_numbers(text: str) -> set[int]:
    """Where the lines of a list that counts up from one begin with their number."""
    starts: list[int] = []
    for match in _LIST_NUMBER.finditer(text):
        if int(match[1]) == len(starts) + 1:
            starts.append(match.start(1))
    return set(starts) if len(starts) >= 2 else set()
