"""What is read as a number, and which two say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.generation.grounding.number import agrees
from shared.generation.grounding.numbers import decimal_mark, numbers


def read(text: str, language: str = "en") -> list[str]:
    """Each claim in short: value and unit, or the kind with what it holds."""
    shown = []
    for number in numbers(text, language, decimal_mark(text, language)):
        if number.is_claim:
            date = "-".join(str(part or "?") for part in number.date)
            value = {"date": date, "label": number.said}.get(number.kind, f"{number.value.normalize():f}")
            kind = "" if number.kind == "amount" else f"{number.kind} "
            shown.append(f"{kind}{value} {number.unit or ''}".strip())
    return shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("41 metres, 1,240 m and 19 sea miles", ["41 m", "1240 m", "19 nautical mile"]),
        ("a 150-watt bulb for $12.50 or 12 crowns", ["150 W", "12.5 USD", "12 crown"]),
        ("16 or 25 minutes, 12 % and 3.5 per cent", ["16 min", "25 min", "12 %", "3.5 %"]),
        ("seven and a half hours, twenty-five steps, one hundred and fifty", ["7.5 h", "25", "150"]),
        ("two thousand three hundred, 2.3 million, 4k, a dozen", ["2300", "2300000", "4000"]),
        ("on 14 March 1862, March 14, in March 1862", ["date 14-3-1862", "date 14-3-?", "date ?-3-1862"]),
        ("on 1862-03-14 and on the 2nd of June", ["date 14-3-1862", "date 2-6-?"]),
        ("on 41 March 1862", ["date 41-3-1862"]),
        ("at 9:15, 5 pm, 5:30 p.m., noon or 10 o'clock", [f"time {m}" for m in (555, 1020, 1050, 720, 600)]),
        ("the first Friday, the 15th day", ["ordinal 1", "ordinal 15"]),
        ("SHA-256, v2.1, the 1950s", ["label SHA-256", "label v2.1", "label 1950s"]),
        ("One of them may go. No one knows. First, open it once it is dry.", []),
        ("-5 °C and \u22123 degrees Celsius", ["-5 °C", "-3 °C"]),
        ("1. Open 3 doors\n2. Close 5 doors", ["3", "5"]),
        ("May 5 go? You may 5 times.", ["date 5-5-?", "5"]),
    ],
)  # fmt: skip
def test_english_numbers(text: str, expected: list[str]) -> None:
    assert read(text) == expected


def test_numbers_of_other_languages() -> None:
    german = "Am 14. März 1862 um 17.20 Uhr kosteten 1.240 Meter 12,5 Prozent von 3 Mio. Euro, also zwölf."
    assert read(german, "de") == ["date 14-3-1862", "time 1040", "1240 m", "12.5 %", "3000000 EUR", "12"]
    assert read("18 000 visiteurs, 6,4 mètres, neuf tours", "fr") == ["18000", "6.4 m", "9"]


@pytest.mark.parametrize(
    ("claimed", "stated", "same"),
    [
        ("1240 m", "1,240 metres", True),
        ("1,24 m", "1,240 metres", False),
        ("12", "12 %", False),
        ("12 %", "12 crowns", False),
        ("12 euros", "12 crowns", False),
        ("12", "12 crowns", True),
        ("3:30 pm", "15:30", True),
        ("3:30", "15:30", False),
        ("from 10", "from 10:00", True),
        ("in 1862", "14 March 1862", True),
        ("March 1862", "14 March 1862", True),
        ("15 March 1862", "14 March 1862", False),
        ("2 hours", "two hours", True),
        ("120 minutes", "two hours", False),
        ("the second", "two", False),
    ],
)
def test_what_agrees(claimed: str, stated: str, same: bool) -> None:
    assert agrees(numbers(claimed)[0], numbers(stated)[0]) is same


@given(st.text(alphabet="0123456789.,:/-% \u00a0aeonwtMarch\n'\u00bd", max_size=60))
def test_any_text_is_read(text: str) -> None:
    for number in numbers(text):
        assert text[number.start : number.end] == number.said
