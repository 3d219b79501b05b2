"""Plain chats, role and content alone, as nearly all rows of files are: read and compared without detours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
_decoder = msgspec.json.Decoder(Chat)
# What stands in every text whose parsing hides something: a key that comes twice, a NUL, an escape that makes
# a letter of a key or of what is looked for, or a second chat on a line. (A chat with content before the role
# has it too.)
_HIDDEN = finder(r'[ ,\t\r]"(?:role|messages)"', r"\\u00[02-7]", r'[} \t\r]\{"messages"')
_ODD = (_HIDDEN, *BEGINNINGS)
_BREAK = finder(r'\n(?:[^{]|\{[^"]|\{"[^m])')  # a line behind another that does not begin with a chat


def in_runs(
    text: bytes, split: Callable[[], Sequence[bytes | None]], limits: Limits
) -> list[list[Chat] | bytes | None]:
    """The lines in their order: plain chats that stand together, with nothing in them that has to be looked
    at, as one list; any other line as it is.

    text: all lines together, which is looked at first, since most texts have nothing else. split: gives them
    one by one as they are to be read, None for one over the limit; it is not called when all are plain.
    """
    together, most = _chats(text), _most_messages(limits)
    are_plain = _are_plain(text, together, most)
    # Nothing is found in a text that is no UTF-8, be it for one line.
    odd = [begins for begins in _ODD if begins(text)] if together or _is_utf8(text) else _ODD
    if are_plain and not odd and b"\r" not in text and len(text) <= limits.line_bytes:
        return [together]
    lines, chats = split(), list[Chat | None](together)
    if len(chats) != len(lines) or None in lines:
        chats, are_plain = list(map(_chat, lines)), False
    left_out = {
        place
        for begins in odd
        for place, line in enumerate(lines)
        # A backslash that is escaped begins no escape.
        if line and begins(line) and begins(line.replace(rb"\\", b""))
    }
    # A line left out may lack a content that another has twice.
    are_plain &= all([_is_plain(lines[place], chats[place], most) for place in left_out])
    found: list[list[Chat] | bytes | None] = []
    run: list[Chat] = []
    for place, (line, chat) in enumerate(zip(lines, chats, strict=True)):
        if chat is None or place in left_out or not (are_plain or _is_plain(line, chat, most)):
            found.append(line)
            run = []
        else:
            if not run:
                found.append(run)
            run.append(chat)
    return found


def _chats(text: bytes) -> list[Chat]:
    """The chats of a text in which each line begins with one, be there others behind it or not; else none."""
    if not text.startswith(b'{"m') or text.endswith(b"\n") or _BREAK(text):
        return []
    try:
        return _decoder.decode_lines(text)
    except (msgspec.DecodeError, RecursionError):
        return []


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _are_plain(text: bytes, chats: Sequence[Chat], most: int) -> bool:
    """Whether these are the chats of the text, of one to `most` messages, with no content twice in one."""
    counts = list(map(len, [chat.messages for chat in chats]))
    return bool(counts) and min(counts) > 0 and max(counts) <= most and text.count(_CONTENT) == sum(counts)


def _is_plain(line: bytes | None, chat: Chat | None, most: int) -> bool:
    return line is not None and chat is not None and _are_plain(line, [chat], most)


def _chat(line: bytes | None) -> Chat | None:
    try:
        return _decoder.decode(line or b"")
    except (msgspec.DecodeError, RecursionError):
        return None


def _most_messages(limits: Limits) -> int:
    """A chat has three brackets in one another, and two keys a message and one more."""
    return min(limits.messages, (limits.keys - 1) // 2) if limits.depth >= 3 else 0


def key_of(example: Example) -> tuple[int, int, int]:
    """64-bit hashes of the whole row without its columns of metadata, of its prompt, and of its question.

    Rows that say the same have the same ones, in this process. Rows with the same first have the same second,
    and those the same third, when an answer ends them. A row that has a judgement in it (a worse answer, a
    label) shares its prompt with no other: there it may well come again.
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
