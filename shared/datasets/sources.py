"""A row as its file holds it, before anything is known of its format."""

from __future__ import annotations

from typing import Any, NamedTuple


class SourceRow(NamedTuple):
    """line: where it begins, from 1; raw: the JSON that it was read from, None when it was none."""

    line: int
    values: dict[str, Any]
    raw: bytes | None = None
