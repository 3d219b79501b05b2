"""What a row of no known format looks like, and how to say so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from shared.datasets.shapes import SHAPES

_ASKED = ("question", "query", "user", "human", "prompt", "instruction", "input", "problem", "q")
_ANSWERED = ("answer", "response", "assistant", "completion", "output", "reply", "bot", "solution", "a")
_KNOWN = "messages, prompt and completion, instruction and output, conversations, question and answer"


def likeness(row: Mapping[str, Any]) -> str:
    """A hint: which format the columns come closest to and the mapping that makes them so."""
    if wanted := _respelled(row):
        return f"Looks like {wanted[0]}: {_options(wanted[1])}"
    for column, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            keys = value[0].keys()
            if {"role", "content"} <= keys:
                return f"Looks like openai: {_options([('messages', column)])}"
            if {"from", "value"} <= keys:
                return f"Looks like sharegpt: {_options([('conversations', column)])}"
    if columns := asks_and_answers(row):
        asked, answered = columns
        return f"Looks like question_answer: {_options([('question', asked), ('answer', answered)])}"
    if "text" in row:
        return "Text alone has no answer to learn from; give question and answer, or ChatML turns."
    return f"Known are the columns {_KNOWN}. Name yours with --map KNOWN=YOURS."


def asks_and_answers(columns: Collection[str]) -> tuple[str, str] | None:
    """The columns that are called as if they held a question and its answer; None when two are not."""
    asked, answered = _first(_ASKED, columns), _first(_ANSWERED, columns)
    return (asked, answered) if asked and answered and asked != answered else None


def _respelled(row: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]] | None:
    """A format whose columns are all there, but written in another case or with blanks."""
    plain = {column.strip().casefold(): column for column in row}
    for shape in SHAPES:
        if shape.needs <= plain.keys() and shape.mark is None:
            return shape.name, [(name, plain[name]) for name in sorted(shape.needs) if plain[name] != name]
    return None


def _first(names: Iterable[str], columns: Iterable[str]) -> str | None:
    plain = {column.strip().casefold(): column for column in columns}
    return next((plain[name] for name in names if name in plain), None)


def _options(mapping: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"--map {_quoted(f'{known}={own}')}" for known, own in mapping if known != own)


def _quoted(text: str) -> str:
    return (
        text if text.replace("=", "").replace("_", "").isalnum() else "'" + text.replace("'", "'\\''") + "'"
    )
