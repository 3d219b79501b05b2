"""Which questions show what was learned, and when an answer counts as right."""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cli.backend.client import Row


@dataclass(frozen=True)
class Question:
    """What is asked and what the training pair answers."""

    text: str
    expected: str


def pick_questions(pairs: Sequence[Row], count: int, seed: int) -> list[Question]:
    """Up to `count` questions, one from each equal stretch of the dataset; the same ones for the same seed.

    Only pairs of one question and one answer qualify, and only questions that the dataset asks once:
    nobody could tell which of two answers is meant.
    """
    asked = Counter(normalised(pair["user_message"]) for pair in pairs if pair.get("user_message"))
    clear = [
        Question(pair["user_message"], pair["assistant_message"])
        for pair in pairs
        if pair.get("user_message")
        and pair.get("assistant_message")
        and asked[normalised(pair["user_message"])] == 1
    ]
    if len(clear) <= count:
        return clear
    chooser = random.Random(seed)
    bounds = [round(index * len(clear) / count) for index in range(count + 1)]
    return [chooser.choice(clear[low:high]) for low, high in pairwise(bounds)]


def is_right(answer: str, expected: str) -> bool:
    """Whether the answer says what was expected: equal or containing it, whatever the case and the spaces."""
    said, wanted = normalised(answer), normalised(expected)
    return bool(wanted) and wanted in said


def normalised(text: str) -> str:
    """Lower case, composed characters, single spaces."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip().casefold()
