"""A training pair as the rest of the code sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

if TYPE_CHECKING:
    from shared.datasets.examples import Example

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["sft", "preference", "kto"]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Message:
    """One turn. What a plain chat does not have is empty or None, and is left out of `as_dict`."""

    role: Role
    content: str
    tool_calls: tuple[dict[str, Any], ...] = field(default=(), hash=False)  # as OpenAI writes them
    tool_call_id: str | None = None  # which call a message of role tool answers
    name: str | None = None
    weight: int | None = None  # of an answer, 0: not trained on; 1: trained on; see loss_mask.learned_answers

    def as_dict(self) -> dict[str, Any]:
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            said["tool_calls"] = list(self.tool_calls)
        for key in ("tool_call_id", "name", "weight"):
            if (value := getattr(self, key)) is not None:
                said[key] = value
        return said

    @classmethod
    def from_dict(cls, said: dict[str, Any]) -> Self:
        """The turn that `as_dict` gave."""
        return cls(**{**said, "tool_calls": tuple(said.get("tool_calls", ()))})


@dataclass(frozen=True)
class Pair:
    """One training example: a conversation whose last message is the assistant's."""

    id: UUID
    created_at: datetime
    ordinal: int  # its place in the chunk; unique only within it
    messages: tuple[Message, ...]
    token_count: int | None = None  # None: not counted yet
    quality_score: float | None = None  # 0-1; None: not scored yet
    grounding_score: float | None = None  # 0-1; None: nothing to be grounded in
    is_valid: bool = True
    issues: tuple[str, ...] = ()
    review_status: str = "pending"
    kind: Kind = "sft"
    rejected: str | None = None  # the worse last answer; set for kind 'preference'
    is_desirable: bool | None = None  # whether the answer is a good one; set for kind 'kto'
    tools: tuple[dict[str, Any], ...] = field(default=(), hash=False)  # as OpenAI defines them
    metadata: dict[str, Any] = field(default_factory=dict, hash=False)  # columns that belong to no turn
    document_id: UUID | None = None  # None: not from a document
    chunk_id: UUID | None = None  # None: not from a document, or it was cut anew since
    split: SplitName | None = None  # None: not split yet
    cluster_id: UUID | None = (
        None  # the first pair of the group it is never divided from; None: not split yet
    )

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """The pair of a `training_pairs` row, whichever of its two shapes it has."""
        return cls(
            id=UUID(row["id"]),
            created_at=datetime.fromisoformat(row["created_at"]),
            ordinal=row["ordinal"],
            messages=_messages(row),
            token_count=row["token_count"],
            quality_score=row["quality_score"],
            grounding_score=row["grounding_score"],
            is_valid=row["is_valid"],
            issues=tuple(row["issues"]),
            review_status=row["review_status"],
            kind=row["kind"],
            rejected=row["rejected_message"],
            is_desirable=row["is_desirable"],
            tools=tuple(row["tools"] or ()),
            metadata=row["metadata"],
            document_id=_id(row["document_id"]),
            chunk_id=_id(row["chunk_id"]),
            split=row["split"],
            cluster_id=_id(row["cluster_id"]),
        )

    @property
    def is_usable(self) -> bool:
        """Whether it may be trained on and exported."""
        return self.is_valid and self.review_status != "rejected"

    @property
    def system(self) -> str | None:
        """The system message; None when there is none."""
        return next((message.content for message in self.messages if message.role == "system"), None)

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages without the system message."""
        return tuple(message for message in self.messages if message.role != "system")

    @property
    def alternates(self) -> bool:
        """Whether user and assistant take turns, the user begins and the assistant has the last word."""
        turns = self.turns
        return len(turns) >= 2 and takes_turns(turns) and turns[-1].role == "assistant"

    @property
    def question(self) -> str:
        """The first thing that the user says; empty when the user says nothing."""
        return next((message.content for message in self.messages if message.role == "user"), "")

    def as_example(self) -> Example:
        """The pair as it would stand in a file, on no line of it."""
        from shared.datasets.examples import Example  # which knows of messages, as this module does not of it

        rejected = None if self.rejected is None else (Message("assistant", self.rejected),)
        return Example(self.messages, rejected, self.is_desirable, self.tools, self.metadata)


def plain(messages: Sequence[Message]) -> bool:
    """Whether the messages are role and content alone."""
    return not any(m.tool_calls or (m.tool_call_id, m.name, m.weight) != (None, None, None) for m in messages)


def takes_turns(messages: Sequence[Message]) -> bool:
    """Whether a user begins and no role speaks twice in a row; results of tools follow calls.

    A system message may stand before all others.
    """
    before = "system"
    for message in messages:
        role = message.role
        if role == "user" and before not in ("system", "assistant"):
            return False
        if role == "assistant" and before not in ("user", "tool"):
            return False
        if role == "tool" and before not in ("assistant", "tool"):
            return False
        before = role
    return True


def _id(value: str | None) -> UUID | None:
    return UUID(value) if value else None


def _messages(row: dict[str, Any]) -> tuple[Message, ...]:
    if row["messages"] is not None:
        return tuple(Message.from_dict(item) for item in row["messages"])
    messages = [Message("user", row["user_message"]), Message("assistant", row["assistant_message"])]
    if row["system_message"]:
        messages.insert(0, Message("system", row["system_message"]))
    return tuple(messages)
