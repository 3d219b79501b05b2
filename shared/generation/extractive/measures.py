"""How English writes times, durations, sizes, sums and counts."""

from __future__ import annotations

import re

from shared.generation.extractive.english import WORDS


def _any(name: str) -> str:
    return "|".join(sorted(WORDS[name], key=lambda word: (-len(word), word)))


NUMBER = rf"(?:[$€£]?\d[\d.,]*|(?:{_any('numbers')})(?:[ -](?:{_any('numbers')}))*)"
_ABOUT = (
    r"(?:(?:about|around|nearly|almost|roughly|exactly|only|over|at most|at least|up to|more than|less than"
    r"|fewer than|no more than|another) )?"
)
_AMOUNT = rf"{_ABOUT}{NUMBER}(?: and a half)?"
_UNIT = r"(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?|decades?|centur(?:y|ies)|nights?)\b"
_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DAY = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_CLOCK = r"\d{1,2}[:.]\d{2}(?: ?[ap]\.?m\.?)?|\d{1,2} ?[ap]\.?m\.?\b|(?:noon|midnight|midday)\b"
_ORDINAL = "(?:st|nd|rd|th)"
_DATE = (
    rf"\d{{4}}-\d\d-\d\d|\d{{1,2}}{_ORDINAL}? {_MONTH}\b|{_MONTH} \d{{1,2}}\b|{_MONTH}\b|{_DAY}s?\b"
    rf"|(?:1[0-9]|20)\d\d\b(?! [a-z]+s\b)|the \d{{1,2}}{_ORDINAL}\b"
    r"|(?:spring|summer|autumn|winter|mornings?|afternoons?|evenings?|nights?|dawn|dusk|sunrise|sunset)\b"
)
_NEARER = (
    r"(?:(?:the|late|early|about|around|every|each|first|second|third|last|next|following) "
    r"|mid-|\w+ \w+ of )*"
)

CLOCK = re.compile(_CLOCK)
# "on the first Friday", "at 9:15", "since 1907"; or "45 minutes before": `offset` is then set.
WHEN = re.compile(
    rf"\b(?P<how>on|at|in|from|between|until|till|before|after|since|by|every|each|during)"
    rf" {_NEARER}(?:{_CLOCK}|{_DATE})"
    rf"|\b{_ABOUT}{NUMBER} {_UNIT} (?P<offset>before|after|ahead|in advance|earlier|later)\b"
)
# "once every 24 seconds", "every Sunday"
HOW_OFTEN = re.compile(
    rf"\b(?:(?:on|in|at) )?(?:(?:once|twice|\w+ times) (?:every|each|an?|per)|every|each)"
    rf" (?:\w+ )?(?:{NUMBER} )?(?:{_UNIT}|{_DAY}\b)"
)
# "for about 30 hours", "for a week"
DURATION = re.compile(rf"\bfor (?:the (?:first|next|last) )?{_AMOUNT} {_UNIT}|\bfor an? {_UNIT}")
# What follows "takes": "16 minutes"
SPAN = re.compile(rf"{_AMOUNT} {_UNIT}")
# "1,240 metres long"
SIZE = re.compile(rf"{_AMOUNT} [\w-]+ (?P<adjective>long|wide|high|tall|deep|thick|old|heavy|away|broad)\b")
# "12 crowns a page"
MONEY = re.compile(
    rf"{_ABOUT}(?:[$€£]\s?\d[\d.,]*|{NUMBER} (?:{_any('currencies')})\b)(?: (?:a|an|per|each)(?: \w+)?\b)?"
)
# "after 4,300 letters", "at most 38 passengers"
COUNT = re.compile(rf"(?P<particle>(?:(?:after|for|on|with|to|from|over|up|out|at) )?){_AMOUNT} (?P<noun>.+)")
LEADING_NUMBER = re.compile(rf"{NUMBER} ")
