"""An example as the columns of `training_pairs`, or why the table cannot hold it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any
from uuid import uuid4

from shared.datasets.examples import Example
from shared.datasets.model import Message, plain
from shared.datasets.split import named_split
from shared.datasets.turns import NotRead
from shared.tokens import count_tokens

_count_repeated = lru_cache(maxsize=1024)(count_tokens)  # system messages: one stands in most rows


def with_system_prompt(example: Example, system_prompt: str | None) -> Example:
    """The example under this system message, unless it has one of its own."""
    if not system_prompt or any(message.role == "system" for message in example.messages):
        return example
    return replace(example, messages=(Message("system", system_prompt), *example.messages))


def pair_row(example: Example) -> dict[str, Any]:
    """The columns that are not null. Raises NotRead for what they cannot hold."""
    row = {
        "id": str(uuid4()),
        "kind": "sft",
        "token_count": token_count(example.messages),
        "source_line": example.line,
        **_turns(example.messages),
    }
    if example.metadata:
        row["metadata"] = example.metadata
    if (split := named_split(example.metadata.get("split"))) is not None:
        row["split"] = split
    if example.tools:
        row["tools"] = example.tools
    if example.rejected is not None:
        row |= {"kind": "preference", "rejected_message": _one_text(example.rejected)}
    elif example.label is not None:
        row |= {"kind": "kto", "is_desirable": example.label}
    return row


def token_count(messages: tuple[Message, ...]) -> int:
    """Tokens of all contents together, as they are counted for every pair."""
    return sum(
        (_count_repeated if message.role == "system" else count_tokens)(message.content)
        for message in messages
    )


def _turns(messages: tuple[Message, ...]) -> dict[str, Any]:
    """One question and one answer in columns of their own, all else as a list."""
    roles = [message.role for message in messages]
    if roles in (["user", "assistant"], ["system", "user", "assistant"]) and plain(messages):
        row = {f"{message.role}_message": message.content for message in messages}
        if row.get("system_message") != "":
            return row
    return {"messages": [message.as_dict() for message in messages]}


def _one_text(rejected: tuple[Message, ...]) -> str:
    if len(rejected) == 1 and rejected[0].role == "assistant" and plain(rejected):
        return rejected[0].content
    hint = "Make the worse end one answer of text alone."
    what = f"{len(rejected)} messages" if len(rejected) != 1 else "more than text"
    raise NotRead("rejected_not_held", f"The worse end is {what}, which a pair cannot hold.", hint)
