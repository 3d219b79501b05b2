"""What a cell of a table stands for: text, or a list or an object as JSON text where the format has one.

A cell that a spreadsheet would take for a formula, with = + - @, a tab or a CR first, is written with an
apostrophe before it, and so is one that already looks like that. Reading takes one apostrophe off again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from shared.datasets.json_rows import Problem, parse
from shared.datasets.limits import Limits
from shared.datasets.shapes import SHAPES, Shape
from shared.datasets.turns import says_turns

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # owasp.org, CSV Injection
# Columns of formats that hold lists or objects.
JSON_COLUMNS = frozenset(
    ("messages", "conversations", "history", "tools", "preferred_output", "non_preferred_output")
)
# Columns that hold text in some rows and messages in others.
EITHER_COLUMNS = frozenset(("prompt", "completion", "chosen", "rejected"))
_LABELS = {"true": True, "false": False, "1": True, "0": False}


def without_formula(text: str) -> str:
    """The text as a cell that no spreadsheet runs."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def with_formula(cell: str) -> str:
    """The text that `without_formula` was given."""
    return cell[1:] if cell[:1] == "'" and cell.lstrip("'").startswith(_FORMULA) else cell


def shape_of_columns(columns: Collection[str]) -> Shape | None:
    """The format that a table of these columns is in, as far as columns tell."""
    names = frozenset(columns)
    return next((shape for shape in SHAPES if shape.needs <= names and shape.mark is None), None) or next(
        (shape for shape in SHAPES if shape.needs <= names), None
    )


def values_of(
    cells: Mapping[str, Any], shape: Shape | None, limits: Limits, *, empty: str | None
) -> dict[str, Any] | tuple[str, Problem]:
    """The row that cells of these columns stand for, or the column that has a problem.

    A cell of None is no value; in a column without which the format is none it is `empty`.
    """
    needs, own = (shape.needs, shape.needs | shape.may_have) if shape else (frozenset(), frozenset())
    row: dict[str, Any] = {}
    for name, cell in cells.items():
        if cell is None:
            if name in needs:
                row[name] = None if name in JSON_COLUMNS else empty
        elif name not in own or not isinstance(cell, str):
            row[name] = cell
        elif _is_json(name, cell, shape):
            value = parse(cell.encode(), limits) if cell else None
            if isinstance(value, Problem):
                return name, value
            row[name] = value
        else:
            row[name] = _LABELS.get(cell.strip().casefold(), cell) if name == "label" else cell
    return row


def _is_json(name: str, text: str, shape: Shape | None) -> bool:
    if name in JSON_COLUMNS:
        return True
    if name == "input" and shape is not None and shape.name == "openai_preference":
        return True
    return name in EITHER_COLUMNS and says_turns(text)
