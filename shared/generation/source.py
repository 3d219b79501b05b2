"""What pairs are made from, and what they are before they are checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from shared.db import Row

Mode = Literal["auto", "qa", "instruction", "conversation"]


@dataclass(frozen=True)
class SourceChunk:
    """A chunk of a document: content == text[char_start:char_end] of it."""

    content: str
    char_start: int
    heading_path: tuple[str, ...] = ()
    variant: int = 0  # how often a model's answer about it was of no use: each time it is asked anew

    @classmethod
    def from_row(cls, row: Row) -> SourceChunk:
        return cls(row["content"], row["char_start"], tuple(row["heading_path"]), row.get("variant", 0))

    @property
    def grounds(self) -> str:
        """What an answer may rest on: the headings above the chunk, and its text."""
        return "\n".join((*self.heading_path, "", self.content))


@dataclass(frozen=True)
class Draft:
    """Turns that a generator proposes, with the span of the document that the last answer rests on."""

    turns: tuple[tuple[str, str], ...]  # (what the user says, what the assistant answers)
    char_start: int
    char_end: int


@dataclass(frozen=True)
class Drafts:
    """What one chunk gave, before it is checked."""

    drafts: list[Draft]
    refused_count: int = 0  # examples that could not be read or broke a safety rule
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Generator(Protocol):
    """Makes pairs from a chunk."""

    @property
    def name(self) -> str:
        """As stored with each pair: "extractive", or vendor and model."""
        ...

    @property
    def at_once(self) -> int:
        """How many chunks it can take at once now."""
        ...

    @property
    def prompt_hash(self) -> str | None:
        """The prompts that the pairs come from; None: none."""
        ...

    async def draft(self, chunk: SourceChunk, count: int) -> Drafts:
        """At most `count` drafts. Raises ProviderUnavailable and ProviderRejected."""
        ...

    async def close(self) -> None:
        """Frees what it holds."""
        ...
