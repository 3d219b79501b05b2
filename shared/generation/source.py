"""What pairs are made from, and what they are before they are checked."""

from __future__ import annotations

from dataclasses import dataclass

from shared.db import Row


@dataclass(frozen=True)
class SourceChunk:
    """A chunk of a document: content == text[char_start:char_end] of it."""

    content: str
    char_start: int
    heading_path: tuple[str, ...] = ()

    @classmethod
    def from_row(cls, row: Row) -> SourceChunk:
        return cls(row["content"], row["char_start"], tuple(row["heading_path"]))


@dataclass(frozen=True)
class Draft:
    """Turns that a generator proposes, with the span of the document that the last answer rests on."""

    turns: tuple[tuple[str, str], ...]  # (what the user says, what the assistant answers)
    char_start: int
    char_end: int
