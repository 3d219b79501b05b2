"""Plain chats, role and content alone, as nearly all rows of files are: read and compared without detours."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.datasets.examples import Example
from shared.datasets.model import Message, plain


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    messages: tuple[Turn, ...]


def key_of(example: Example) -> tuple[int, int, int]:
    """64-bit hashes of the whole row without its columns of metadata, of its prompt, and of its question.

    Rows that say the same have the same ones, in this process. A row that has a judgement in it (a worse
    answer, a label) shares its prompt with no other: there it may well come again.
    """
    messages, is_judged = example.messages, example.rejected is not None or example.label is not None
    turns = tuple(Turn(message.role, message.content) for message in messages)
    prompt, answer = hash(turns[:-1]), hash(turns[-1])
    if example.tools or not plain(messages[:-1]):
        prompt = hash((prompt, str(example.tools), _besides(messages[:-1])))
    row = hash((prompt, answer))
    if is_judged or not plain(messages[-1:]):
        row = hash((row, _besides(messages[-1:]), example.rejected, example.label))
    question = next((turn.content for turn in turns if turn.role == "user"), "")
    return row, row if is_judged else prompt, hash(question)


def _besides(messages: tuple[Message, ...]) -> str:
    """What the messages have besides role and content."""
    return str([(m.tool_calls, m.tool_call_id, m.name, m.weight) for m in messages])
