"""The rules of injection_rules.txt, ready to be searched for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEAD = re.compile(
    r"(?P<flag>\w+) (?P<weight>[\d.]+) (?P<reading>words|pattern|capitals|near):(?P<triggers>.*)"
)
_READINGS = {"words": re.I, "pattern": re.I | re.M, "capitals": re.M, "near": re.I}


@dataclass(frozen=True)
class Rule:
    """`weight`: 0-1; flags are raised from a sum of 1 on. `triggers`: a match holds one of these words, in
    lower case; empty: it may hold none of them."""

    flag: str
    weight: float
    pattern: re.Pattern[str]
    triggers: frozenset[str] = frozenset()


def _read(text: str) -> Iterator[Rule]:
    defined: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        while lines and lines[0].startswith("define "):
            _, name, meaning = lines.pop(0).split(" ", 2)
            defined[name] = meaning
        if lines:
            yield _rule(lines, defined)


def _rule(lines: list[str], defined: dict[str, str]) -> Rule:
    head = _HEAD.fullmatch(lines[0])
    assert head is not None, f"injection_rules.txt: {lines[0]!r} is no head of a rule"
    alternatives = []
    for line in lines[1:]:
        alternative = line.strip()
        for name, meaning in defined.items():
            alternative = alternative.replace(f"{{{name}}}", meaning)
        alternatives.append(_pattern(alternative, head["reading"]))
    pattern = re.compile("|".join(alternatives), _READINGS[head["reading"]])
    return Rule(head["flag"], float(head["weight"]), pattern, frozenset(head["triggers"].split()))


def _pattern(alternative: str, reading: str) -> str:
    if reading == "words":
        # Words and what parts them share no character, so a match takes linear time.
        return alternative.replace(r"\w+", r"[^\W_]+").replace(" ", r"[\W_]{1,10}")
    if reading == "near":
        verbs, _, objects = alternative.partition(" ~ ")
        return rf"(?:{verbs})(?!\w)[^.:;!?\n]{{0,50}}?(?:{objects})"
    return alternative


RULES = tuple(_read((Path(__file__).parent / "injection_rules.txt").read_text(encoding="utf-8")))
