"""Plain chats, role and content alone, as nearly all rows of files are: read and compared without detours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from shared.datasets.examples import Example
from shared.datasets.limits import Limits
from shared.datasets.model import Message, plain
from shared.datasets.scan import finder
from shared.datasets.sensitive import BEGINNINGS


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    messages: tuple[Turn, ...]


_CONTENT = b'"content"'
_decode = msgspec.json.Decoder(Chat).decode
# What stands in every line whose parsing hides something: a key that comes twice, a NUL, or an escape that
# makes a letter of a key or of what is looked for as text. (A chat with content before the role has it too.)
_HIDDEN = finder(r', ?"role"', r', ?"messages"', r",(?:\t|\r|  )", r"\\u00[02-7]")
_ODD = (_HIDDEN, *BEGINNINGS)


def plain_chats(text: bytes, lines: Sequence[bytes | None], limits: Limits) -> list[Chat | None]:
    """For each line its chat, when it is plain and has nothing in it that has to be looked at; else None.

    text: all lines together, in which is looked first, since most texts have nothing of the kind.
    """
    chats: list[Chat | None]
    try:
        chats = list(map(_decode, lines))  # type: ignore[arg-type] # a line of None ends it
    except (msgspec.DecodeError, RecursionError, TypeError):
        chats = list(map(_chat, lines))
    counts = [len(chat.messages) if chat else 0 for chat in chats]
    most = _most_messages(limits)
    has_second_keys = text.count(_CONTENT) != sum(counts)
    odd = [begins for begins in _ODD if begins(text)]
    if min(counts) > 0 and max(counts) <= most and not has_second_keys and not odd:
        return chats
    for place, (line, count) in enumerate(zip(lines, counts, strict=True)):
        is_fine = line is not None and 0 < count <= most and not any([begins(line) for begins in odd])
        if not is_fine or (has_second_keys and line is not None and line.count(_CONTENT) != count):
            chats[place] = None
    return chats


def _chat(line: bytes | None) -> Chat | None:
    try:
        return _decode(line or b"")
    except (msgspec.DecodeError, RecursionError):
        return None


def _most_messages(limits: Limits) -> int:
    """A chat has three brackets in one another, and two keys a message and one more."""
    return min(limits.messages, (limits.keys - 1) // 2) if limits.depth >= 3 else 0


def key_of(example: Example) -> tuple[int, int, int]:
    """64-bit hashes of the whole row without its columns of metadata, of its prompt, and of its question.

    Rows that say the same have the same ones, in this process. A row that has a judgement in it (a worse
    answer, a label) shares its prompt with no other: there it may well come again.
    """
    messages, is_judged = example.messages, example.rejected is not None or example.label is not None
    turns = tuple(Turn(message.role, message.content) for message in messages)
    row, prompt = hash(turns), hash(turns[:-1])
    if example.tools or not plain(messages[:-1]):
        prompt = hash((prompt, str(example.tools), _besides(messages[:-1])))
    if is_judged or example.tools or not plain(messages):
        row = hash((row, prompt, _besides(messages[-1:]), example.rejected, example.label))
    question = next((turn.content for turn in turns if turn.role == "user"), "")
    return row, row if is_judged else prompt, hash(question)


def example_of(chat: Chat, line: int) -> Example:
    return Example(tuple(Message(turn.role, turn.content) for turn in chat.messages), line=line)


def _besides(messages: tuple[Message, ...]) -> str:
    """What the messages have besides role and content."""
    return str([(m.tool_calls, m.tool_call_id, m.name, m.weight) for m in messages])
