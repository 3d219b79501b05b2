"""What pairs are made from, and what they are before they are checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from shared.db import Row
from shared.documents.injection import injection_flags, without_flagged

Mode = Literal["auto", "qa", "instruction", "conversation"]


@dataclass(frozen=True)
class SourceChunk:
    """A chunk of a document: content == text[char_start:char_end] of it."""

    content: str
    char_start: int
    heading_path: tuple[str, ...] = ()
    variant: int = 0  # how often a model's answer about it was of no use: each time it is asked anew
    ordinal: int = 0  # its place in the dataset
    is_blanked: bool = False  # whether blanks stand in place of what spoke to language models

    @classmethod
    def from_row(cls, row: Row) -> SourceChunk:
        """The chunk of a claimed work item, or of its own row. What in it speaks to language models is
        neither shown to one nor counts as a source: blanks stand in its place."""
        is_flagged = bool(row["injection_flags"])
        return cls(
            without_flagged(row["content"]) if is_flagged else row["content"],
            row["char_start"],
            tuple(heading for heading in row["heading_path"] if not injection_flags(heading)),
            row.get("variant", 0),
            row.get("ordinal", 0),
            is_flagged,
        )

    @property
    def shown(self) -> str:
        """The content as a model is shown it: without the blanks that stand for something."""
        return re.sub(r"\s*\n\s*\n\s*", "\n\n", self.content).strip() if self.is_blanked else self.content

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
    reasoning: tuple[str, ...] = ()  # what the assistant thinks before each answer; empty: nothing

    @property
    def thoughts(self) -> tuple[str, ...]:
        """One for each turn; an empty text where nothing was thought."""
        return self.reasoning or ("",) * len(self.turns)


@dataclass(frozen=True)
class Drafts:
    """What one chunk gave, before it is checked."""

    drafts: list[Draft]
    refused_count: int = 0  # examples that could not be read or broke a safety rule
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a judging model says of one draft."""

    is_supported: bool
    reason: str


@dataclass(frozen=True)
class Verdicts:
    """Of each draft in order, None where nothing was said; of no draft when nobody judges."""

    of: list[Verdict | None] = field(default_factory=list)
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

    async def judge(self, chunk: SourceChunk, drafts: Sequence[Draft]) -> Verdicts:
        """What a second look says of them. Raises as `draft` does."""
        ...

    async def close(self) -> None:
        """Frees what it holds."""
        ...
