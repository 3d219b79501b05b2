"""Rows as their file holds them, before they are examples."""

from __future__ import annotations

from typing import Any, NamedTuple

from shared.datasets.chats import Chat


class SourceRow(NamedTuple):
    """line: where it begins, from 1; raw: the JSON that it was read from, None when it was none."""

    line: int
    values: dict[str, Any]
    raw: bytes | None = None


class ChatRun(NamedTuple):
    """Plain chats on lines one after another, in which reading finds nothing, nor `sensitive`."""

    line: int  # of the first
    chats: list[Chat]
