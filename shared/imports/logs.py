"""Conversations that were held with users, and what the users thought of them, as training rows.

A row of a log is a conversation in any format that is known, and beside it, all optional:

    rating      1 to 5
    gold_star   true: somebody marked the answer as exemplary
    feedback    "up" or "down"
    correction  the text that the last answer should have been
    metadata    an object; it and all other columns can be filtered by

What a row becomes when no kind is asked for: a preference pair when it has a correction (rejected: the answer
that was given), nothing when its feedback is down without one, and else a plain pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from shared.datasets.examples import Example
from shared.datasets.model import Kind, Message
from shared.datasets.turns import NotRead, kind_of
from shared.imports.options import LogChoice, matches

LeftOut = Literal["filter", "gold_star", "rating", "feedback", "kind"]

_COLUMNS = ("rating", "gold_star", "feedback", "correction")
_ALIKE = {  # as others name the column, in small letters and without what parts words
    "rating": ("stars", "score", "ratings", "rate", "starrating", "userrating"),
    "gold_star": ("goldstar", "gold", "isgoldstar", "isgold", "starred", "goldstandard"),
    "feedback": ("thumbs", "thumb", "thumbsup", "thumbsdown", "vote", "reaction", "liked", "userfeedback"),
    "correction": (
        "corrected",
        "correctedanswer",
        "correctedoutput",
        "betteranswer",
        "idealanswer",
        "edited",
    ),
}
_KNOWN_AS = {own: column for column, names in _ALIKE.items() for own in (*names, column.replace("_", ""))}
_UP = ("thumbs_up", "thumbsup", "like", "liked", "positive", "good", "yes", "true", "1", "+1", "👍")
_DOWN = (
    "thumbs_down",
    "thumbsdown",
    "dislike",
    "disliked",
    "negative",
    "bad",
    "no",
    "false",
    "0",
    "-1",
    "👎",
)


@dataclass(frozen=True)
class LogRow:
    """One row as it was read; None where it does not say."""

    example: Example
    rating: int | None
    is_gold_star: bool | None
    feedback: Literal["up", "down"] | None
    correction: str | None


def log_row(example: Example) -> LogRow:
    """What the row says about its last answer. Raises NotRead for what only looks like one of the columns."""
    columns = example.metadata
    for name in columns.keys() - set(_COLUMNS):
        known = _KNOWN_AS.get(name.casefold().translate({ord(mark): None for mark in "_- "}))
        if known and known not in columns:
            hint = f"Looks like {known}: --map {known}={name}. Put it into metadata if it is none."
            raise NotRead("log_column", f"The column {name!r} is none of a log.", hint)
    row = LogRow(
        example,
        _rating(columns.get("rating")),
        _gold_star(columns.get("gold_star")),
        _feedback(columns.get("feedback")),
        _correction(columns.get("correction")),
    )
    if row.feedback == "up" and row.correction is not None:
        hint = "Take the correction out, or write feedback down."
        raise NotRead("log_contradiction", "The answer is praised and corrected at once.", hint)
    if row.correction is not None and example.messages[-1].role != "assistant":
        hint = "End the conversation with the answer that was given."
        raise NotRead("correction", "There is no answer that the correction could stand for.", hint)
    return row


def chosen(row: LogRow, choice: LogChoice) -> list[Example] | LeftOut:
    """The training rows that a row of a log becomes, or the reason for which it becomes none."""
    if not matches(choice.filter, row.example.metadata):
        return "filter"
    if choice.gold_star_only and not row.is_gold_star:
        return "gold_star"
    if choice.min_rating is not None and (row.rating is None or row.rating < choice.min_rating):
        return "rating"
    return _as_kind(row, choice.kind)


def _as_kind(row: LogRow, kind: Kind | None) -> list[Example] | LeftOut:
    given = row.example
    if given.is_preference or given.label is not None:
        own: Kind = "preference" if given.is_preference else "kto"
        return [given] if kind in (None, own) else "kind"
    if row.correction is None:
        if kind == "kto":
            return _labelled(row)
        if row.feedback == "down":
            return "feedback"
        return "kind" if kind == "preference" else [given]
    rest = {name: value for name, value in given.metadata.items() if name != "correction"}
    better = replace(given, messages=(*given.prompt, Message("assistant", row.correction)), metadata=rest)
    if kind == "sft":
        return [better]
    if kind == "kto":
        return [replace(better, label=True), replace(given, label=False, metadata=rest)]
    return [replace(better, rejected=given.messages[-1:])]


def _labelled(row: LogRow) -> list[Example] | LeftOut:
    if row.feedback is None:
        return [replace(row.example, label=True)] if row.is_gold_star else "feedback"
    return [replace(row.example, label=row.feedback == "up")]


def _rating(value: object) -> int | None:
    if value is None or value == "":
        return None
    if not isinstance(value, bool) and str(value) in ("1", "2", "3", "4", "5"):
        return int(str(value))
    raise NotRead("rating", f"rating is {_shown(value)}, not a whole number from 1 to 5.", "Write 1 to 5.")


def _gold_star(value: object) -> bool | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or str(value).casefold() in ("true", "false"):
        return str(value).casefold() == "true"
    raise NotRead("gold_star", f"gold_star is {_shown(value)}, not true or false.", "Write true or false.")


def _feedback(value: object) -> Literal["up", "down"] | None:
    if value is None or value == "":
        return None
    if value == "up" or value == "down":
        return "up" if value == "up" else "down"
    said = str(value).casefold().replace(" ", "_")
    meant = "up" if said in _UP else "down" if said in _DOWN else None
    hint = f'Looks like {meant}: write "{meant}".' if meant else 'Write "up" or "down", or leave it out.'
    raise NotRead("feedback", f"feedback is {_shown(value)}, not up or down.", hint)


def _correction(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    raise NotRead("correction", f"correction is {kind_of(value)}, not text.", "Write the better answer.")


def _shown(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float) else kind_of(value)
