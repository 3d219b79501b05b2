"""A training example as it stands in a file: no id, no database, only what the row says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.datasets.model import Message


@dataclass(frozen=True)
class Example:
    """One row, whatever format it was written in.

    messages: the conversation; for a preference it ends with the better answer.
    rejected: the worse end, put in place of the better one; None when the row is no preference.
    label: whether the answer is a good one (KTO); None when the row does not say.
    tools: definitions of the tools that the conversation may call, as OpenAI writes them.
    metadata: columns that belong to no turn.
    line: where the row begins in its file, from 1; two examples that differ only in it are equal.
    """

    messages: tuple[Message, ...]
    rejected: tuple[Message, ...] | None = None
    label: bool | None = None
    tools: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    line: int = field(default=0, compare=False)

    @property
    def is_preference(self) -> bool:
        return self.rejected is not None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What comes before the answer: all messages but the last."""
        return self.messages[:-1]
