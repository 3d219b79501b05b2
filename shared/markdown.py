"""Markdown with words of others in it."""

from __future__ import annotations

from collections.abc import Sequence


def line(text: str) -> str:
    """On one line, and nothing in it is read as Markdown or HTML."""
    escaped = "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in text)
    return " ".join(escaped.split())


def table(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of a table of names and values, which are Markdown already."""
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)]
