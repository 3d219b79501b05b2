"""Rows of logs: what users said of an answer decides whether and as what it is learned from."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.datasets.examples import Example
from shared.datasets.model import Kind, Message
from shared.datasets.turns import NotRead
from shared.imports.logs import chosen, log_row
from shared.imports.options import LogChoice

ASKED = (Message("user", "Is the lamp lit?"),)
GIVEN = (*ASKED, Message("assistant", "No."))
BETTER = (*ASKED, Message("assistant", "Since 1871."))
DOWN, FIXED = {"feedback": "down"}, {"feedback": "down", "correction": "Since 1871."}


def made(columns: dict[str, Any], **choice: Any) -> Any:
    """What a row with these columns becomes: (messages, rejected, label) of each example, or the reason."""
    found = chosen(log_row(Example(GIVEN, metadata=columns, line=3)), LogChoice(**choice))
    if isinstance(found, str):
        return found
    assert all(example.line == 3 and "correction" not in example.metadata for example in found)
    return [(example.messages, example.rejected, example.label) for example in found]


@pytest.mark.parametrize(
    ("columns", "kind", "expected"),
    [
        ({}, None, [(GIVEN, None, None)]),
        ({"feedback": "up"}, None, [(GIVEN, None, None)]),
        (DOWN, None, "feedback"),
        (FIXED, None, [(BETTER, GIVEN[-1:], None)]),
        ({"correction": "Since 1871."}, None, [(BETTER, GIVEN[-1:], None)]),
        (FIXED, "sft", [(BETTER, None, None)]),
        (DOWN, "sft", "feedback"),
        (FIXED, "preference", [(BETTER, GIVEN[-1:], None)]),
        ({"feedback": "up"}, "preference", "kind"),
        ({"feedback": "up"}, "kto", [(GIVEN, None, True)]),
        (DOWN, "kto", [(GIVEN, None, False)]),
        (FIXED, "kto", [(BETTER, None, True), (GIVEN, None, False)]),
        ({"gold_star": True}, "kto", [(GIVEN, None, True)]),
        ({}, "kto", "feedback"),
    ],
)
def test_feedback_decides_the_kind(columns: dict[str, Any], kind: Kind | None, expected: Any) -> None:
    assert made(columns, kind=kind) == expected


def test_rows_that_are_preferences_already_stay_so() -> None:
    row = log_row(Example(BETTER, rejected=GIVEN[-1:]))
    assert chosen(row, LogChoice()) == [row.example]
    assert chosen(row, LogChoice(kind="sft")) == "kind"


@pytest.mark.parametrize(
    ("columns", "choice", "is_taken"),
    [
        ({"gold_star": True}, {"gold_star_only": True}, True),
        ({"gold_star": "true", "rating": "4"}, {"gold_star_only": True, "min_rating": 4}, True),
        ({"gold_star": False}, {"gold_star_only": True}, False),
        ({}, {"gold_star_only": True}, False),
        ({"rating": 4}, {"min_rating": 4}, True),
        ({"rating": 3}, {"min_rating": 4}, False),
        ({}, {"min_rating": 1}, False),
        ({"metadata": {"lang": "en"}}, {"filter": {"lang": "en"}}, True),
        ({"lang": "en"}, {"filter": {"lang": ["de", "en"]}}, True),
        ({"lang": "fr"}, {"filter": {"lang": {"in": ["de", "en"]}}}, False),
        ({"metadata": {"lang": "fr"}, "lang": "en"}, {"filter": {"lang": "en"}}, False),
        ({}, {"filter": {"lang": "en"}}, False),
        ({"turns": 5}, {"filter": {"turns": {"gte": 5, "lte": 5}}}, True),
        ({"turns": "10"}, {"filter": {"turns": {"gte": 9}}}, True),
        ({"turns": True}, {"filter": {"turns": {"gte": 0}}}, False),
        ({"turns": None}, {"filter": {"turns": {"gte": 0}}}, False),
        ({"day": "2026-11-29"}, {"filter": {"day": {"gte": "2026-11-01", "lte": "2026-12-01"}}}, True),
        ({"day": "2026-10-29"}, {"filter": {"day": {"gte": "2026-11-01"}}}, False),
        ({"is_paid": True}, {"filter": {"is_paid": "true"}}, True),
        ({"size": 5}, {"filter": {"size": "5"}}, True),
        ({"a": 1, "b": 2}, {"filter": {"a": 1, "b": 3}}, False),
    ],
)
def test_all_conditions_have_to_hold(
    columns: dict[str, Any], choice: dict[str, Any], *, is_taken: bool
) -> None:
    assert isinstance(made(columns, **choice), list) == is_taken


@pytest.mark.parametrize(
    ("columns", "rule", "hint"),
    [
        ({"stars": 4}, "log_column", "Looks like rating: --map rating=stars"),
        ({"goldStar": True}, "log_column", "Looks like gold_star: --map gold_star=goldStar"),
        ({"Thumbs-Up": True}, "log_column", "Looks like feedback"),
        ({"corrected_answer": "x"}, "log_column", "Looks like correction"),
        ({"feedback": "thumbs_up"}, "feedback", 'Looks like up: write "up"'),
        ({"feedback": -1}, "feedback", 'Looks like down: write "down"'),
        ({"feedback": "meh"}, "feedback", 'Write "up" or "down"'),
        ({"rating": 0}, "rating", "1 to 5"),
        ({"rating": 4.5}, "rating", "1 to 5"),
        ({"rating": True}, "rating", "1 to 5"),
        ({"gold_star": 1}, "gold_star", "true or false"),
        ({"correction": ["x"]}, "correction", "better answer"),
        ({"feedback": "up", "correction": "x"}, "log_contradiction", "feedback down"),
    ],
)
def test_what_only_looks_like_a_log_is_refused_with_what_it_looks_like(
    columns: dict[str, Any], rule: str, hint: str
) -> None:
    with pytest.raises(NotRead) as refused:
        log_row(Example(GIVEN, metadata=columns))
    assert refused.value.rule == rule
    assert hint in refused.value.hint


def test_a_correction_needs_an_answer_to_stand_for() -> None:
    with pytest.raises(NotRead, match="no answer"):
        log_row(Example(ASKED, metadata={"correction": "x"}))


@pytest.mark.parametrize(
    "choice",
    [{"filter": {"a": {"gt": 1}}}, {"filter": {"a": None}}, {"filter": {"a": {"in": []}}}, {"min_rating": 6}],
)
def test_conditions_that_mean_nothing_are_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LogChoice(**choice)
