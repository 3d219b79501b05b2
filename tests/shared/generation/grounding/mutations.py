"""Wrong numbers planted in good answers, by rules that know nothing of the check."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise

from tests.shared.generation.grounding.good_pairs import GoodPair

_DIGITS = re.compile(r"(?<![\w.,:-])\d+(?:[.,:]\d+)*(?![\w])")
_WORDS = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "fourteen",
]
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b")
_ORDINALS = ["first", "second", "third", "fourth", "sixth", "1st", "2nd", "3rd", "15th", "16th"]
_ORDINAL = re.compile(rf"\b({'|'.join(_ORDINALS)})\b")
_UNITS = {
    "metres": "kilometres", "kilometres": "metres", "kilograms": "grams", "minutes": "hours",
    "hours": "minutes",
    "days": "weeks", "years": "months", "seconds": "minutes", "crowns": "euros", "watts": "volts", "km": "m",
    "kg": "g", "knots": "km/h", "degrees": "percent", "sea miles": "kilometres", "weeks": "days",
}  # fmt: skip
_UNIT = re.compile(rf"(?<=\d )({'|'.join(_UNITS)})\b")


def mutations(pair: GoodPair) -> list[tuple[str, str]]:
    """(kind, wrong answer): each differs from the good one in what a number says, and from the others."""
    return [(kind, wrong) for wrong, kind in {wrong: kind for kind, wrong in _mutations(pair)}.items()]


def _mutations(pair: GoodPair) -> Iterator[tuple[str, str]]:
    said = pair.answer
    spots = list(_DIGITS.finditer(said))
    for spot in spots:
        for kind, wrong in _of_digits(spot[0], pair.is_english):
            if _value(wrong) != _value(spot[0]):
                yield kind, said[: spot.start()] + wrong + said[spot.end() :]
        if not re.match(r"\s?(%|percent|Prozent)", said[spot.end() :]):
            yield "percent", f"{said[: spot.start()]}{spot[0]} %{said[spot.end() :]}"
        for other in _others(pair.source, spot[0]):
            yield "other number of the source", said[: spot.start()] + other + said[spot.end() :]
    for one, other in pairwise(spots):
        # What is listed is the same in any order.
        between = said[one.end() : other.start()]
        if _value(one[0]) != _value(other[0]) and not re.fullmatch(r"( am)?,? (and )?((at|in) )?", between):
            swapped = other[0] + between + one[0]
            yield "swap", said[: one.start()] + swapped + said[other.end() :]
    for spot in _WORD.finditer(said):
        place = _WORDS.index(spot[1])
        for other in (_WORDS[(place + 1) % len(_WORDS)], _WORDS[place - 1], "seventeen"):
            yield "number word", said[: spot.start()] + other + said[spot.end() :]
    words = list(_WORD.finditer(said))
    for one, other in pairwise(words):
        if one[0] != other[0]:
            swapped = other[0] + said[one.end() : other.start()] + one[0]
            yield "number word swap", said[: one.start()] + swapped + said[other.end() :]
    for spot in _ORDINAL.finditer(said):
        place = _ORDINALS.index(spot[1])
        yield "ordinal", said[: spot.start()] + _ORDINALS[(place + 1) % len(_ORDINALS)] + said[spot.end() :]
    for spot in _UNIT.finditer(said):
        yield "unit", said[: spot.start()] + _UNITS[spot[1]] + said[spot.end() :]


def _of_digits(said: str, is_english: bool) -> Iterator[tuple[str, str]]:
    if ":" in said:
        hours, minutes = said.split(":")
        yield "time", f"{(int(hours) + 1) % 24}:{minutes}"
        yield "time", f"{hours}:{(int(minutes) + 15) % 60:02d}"
        return
    place = len(said) // 2
    for digit in {(int(said[place]) + 3) % 10 if said[place].isdigit() else 1, 7}:
        if said[place].isdigit():
            yield "digit", said[:place] + str(digit) + said[place + 1 :]
    if len(said) > 1 and said.isdigit() and said[0] != said[1] and said[1] != "0":
        yield "digits swapped", said[1] + said[0] + said[2:]
    if said.isdigit():
        yield "plus one", str(int(said) + 1)
        yield "minus one", str(int(said) - 1)
        yield "magnitude", said + "0"
        yield "magnitude", f"{said}{',' if is_english else '.'}000"
        yield "magnitude", f"{said} million"
        yield "decimal", f"{said}{'.' if is_english else ','}5"
        if len(said) > 1:
            yield "decimal", f"{said[:-1]}{'.' if is_english else ','}{said[-1]}"
            yield "magnitude", said[:-1]
        if len(said) == 4:
            yield "year", said[:2] + str((int(said[2:]) + 10) % 100).zfill(2)
    if "," in said and is_english:
        yield "thousands", said.replace(",", ".")
        yield "thousands", said.replace(",", "") + "0"
        yield "thousands", said.replace(",", "")[:-1]
    if "." in said and is_english:
        yield "decimal", said.replace(".", "")
        yield "decimal", f"{said}5"


def _others(source: str, said: str) -> list[str]:
    """Two other numbers that the source has, of the same look."""
    looks_alike = {
        n for n in _DIGITS.findall(source) if _size(n) != _size(said) and (":" in n) == (":" in said)
    }
    return sorted(looks_alike, key=lambda number: (abs(_size(number) - _size(said)), number))[:2]


def _size(said: str) -> float:
    """To tell which numbers are near."""
    return math.log(float(re.sub("[,:]", "", said)) + 1)


def _value(said: str) -> str:
    return said.replace(",", "").removesuffix(".0")
