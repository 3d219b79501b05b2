"""A plain English statement -> questions that it answers, the most telling first.

The Skerrow tower was finished on 14 March 1862.     When was the Skerrow tower finished?
The lantern room holds eight panes of glass.         How many panes of glass does the lantern room hold?
Dogs may visit the island on a lead.                 What may dogs visit?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.generation.extractive import how, what
from shared.generation.extractive.asking import Statement
from shared.generation.extractive.english import Clause


@dataclass(frozen=True)
class Question:
    """A question, and how telling it is: 0 to 1."""

    text: str
    weight: float


_PATTERNS: list[tuple[float, Callable[[Statement], str | None]]] = [
    (1.0, how.how_much),
    (1.0, how.how_large),
    (1.0, what.called),
    (0.98, how.how_long),
    (0.97, how.how_many),
    (0.96, how.how_often),
    (0.95, how.why),
    (0.94, how.when),
    (0.93, how.when_it_happens),
    (0.92, what.by_whom),
    (0.9, what.where),
    (0.88, what.what_kind),
    (0.86, what.what_is),
    (0.8, what.what_with),
    (0.75, what.what_does),
    (0.6, what.what_must_be),
    (0.5, what.what_do),
    (0.4, what.what_like),
]


def questions(clause: Clause, subject: str) -> list[Question]:
    """All questions that the clause answers; `subject` is how to name what it is about."""
    said = Statement(clause, subject)
    return [Question(text, weight) for weight, pattern in _PATTERNS if (text := pattern(said)) is not None]
