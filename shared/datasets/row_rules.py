"""What speaks against training on a row, whatever the others say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from shared.datasets.examples import Example
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.model import Message, takes_turns
from shared.datasets.sensitive import may_be_sensitive, sensitive_in
from shared.datasets.writing import NotHeld, line_of, row_of
from shared.tokens import count_tokens, counts_exactly

MAX_TOKENS = 4096  # a row
OPENAI_FORMATS = ("openai", "openai_preference")
BYTES_A_TOKEN = 4  # when tokens are estimated: of UTF-8, over all languages
SHORT_CHARS = 16  # a longer answer is not near-empty
_ROLE = re.compile("system|user|assistant|tool")
_PLACEHOLDERS = {"n/a", "na", "none", "null", "nil", "nan", "todo", "tbd", "tba", "xxx", "empty", "no answer"}


class RowRules:
    """The rules for rows of a format. written_bytes: of the rows as they will be written, when they must fit.

    must_fit: a row that the format cannot hold is an error. Preferences and labelled rows are then held by
    formats of their own.
    """

    def __init__(self, format: str, findings: FindingsOf, *, must_fit: bool) -> None:
        self.written_bytes = 0
        self._format = format
        self._findings = findings
        self._must_fit = must_fit

    def about(self, example: Example, token_count: int | None, byte_count: int) -> Iterator[Finding]:
        """token_count: of all its texts, None: not counted; byte_count: of UTF-8 in them."""
        yield from self._about(example)
        yield from self._too_long(example, token_count, byte_count)

    def _about(self, example: Example) -> Iterator[Finding]:
        messages, line = example.messages, example.line

        def wrong(rule: str, message: str, hint: str) -> Finding:
            return self._findings.error(rule, message, hint, line)

        for message in (*messages, *(example.rejected or ())):
            if not message.tool_calls and not message.content.strip():
                hint = "Fill it in or take the row out."
                yield wrong("empty_message", f"A {message.role} message is empty.", hint)
                break
        else:
            yield from self._near_empty(example)
        if any(end[-1].role != "assistant" for end in (messages, example.rejected) if end):
            hint = "Take the last message off, or add the answer."
            yield wrong("no_answer", "The assistant has not the last word.", hint)
        if not _system_first(messages):
            yield wrong("system_not_first", "A system message stands after the first.", "Put it first.")
        elif not takes_turns(messages):
            hint = (
                "The user begins, then both take turns; calls of tools and their results may stand between."
            )
            yield wrong("turn_order", "User and assistant do not take turns.", hint)
        if example.rejected is not None and example.rejected[-1:] == messages[-1:]:
            yield wrong("same_ends", "The better and the worse answer are the same.", "Take the row out.")
        if self._must_fit:
            try:
                self.written_bytes += len(line_of(row_of(example, self._held_as(example))))
            except NotHeld as reason:
                message_ = f"{self._held_as(example)} cannot hold it: it has {reason}."
                yield wrong("not_held", message_, "Choose another format, or take the row out.")
        yield from self._sensitive(example)

    def _held_as(self, example: Example) -> str:
        if example.is_preference:
            return "openai_preference"
        return self._format if example.label is None else "kto"

    def _near_empty(self, example: Example) -> Iterator[Finding]:
        answer = example.messages[-1]
        if answer.role == "assistant" and not answer.tool_calls and says_nothing(answer.content):
            message = f"The answer is only {answer.content.strip()!r}."
            hint = "Write an answer, unless the model is to give this one."
            yield self._findings.warning("near_empty_answer", message, hint, example.line)

    def _sensitive(self, example: Example) -> Iterator[Finding]:
        messages = (*example.messages, *(example.rejected or ()))
        said = [m.content if not m.tool_calls else f"{m.content} {m.tool_calls}" for m in messages]
        if not may_be_sensitive("\n".join(said)):
            return
        told = set()
        for message, text in zip(messages, said, strict=True):
            for found in sensitive_in(text):
                if found.rule not in told:
                    told.add(found.rule)
                    what = f"{found.what[0].upper()}{found.what[1:]} in the {message.role} message"
                    yield self._findings.warning(
                        found.rule, f"{what}: {found.shown}.", found.hint, example.line
                    )

    def _too_long(self, example: Example, token_count: int | None, byte_count: int) -> Iterator[Finding]:
        """A token is at least a byte long, so most rows are short enough without being counted."""
        is_counted = token_count is not None
        if token_count is None and byte_count > MAX_TOKENS:
            token_count = sum(count_tokens(text) for text in texts_of(example))
            is_counted = counts_exactly()
        if token_count is not None and token_count > MAX_TOKENS:
            about = "" if is_counted else "about "
            message = f"{about}{token_count:,} tokens; OpenAI takes {MAX_TOKENS:,} and cuts off the rest."
            tell = self._findings.error if self._format in OPENAI_FORMATS else self._findings.warning
            yield tell("too_long", message, "Shorten or split it.", example.line)


def _system_first(messages: Sequence[Message]) -> bool:
    return all(message.role != "system" for message in messages[1:])


@lru_cache(maxsize=4096)
def in_order(roles: str) -> bool:
    """Whether chats of these roles, written one behind the other, are in order. No role begins another."""
    messages = [Message(role, "") for role in _ROLE.findall(roles)]
    return _system_first(messages) and takes_turns(messages) and messages[-1].role == "assistant"


def says_nothing(answer: str) -> bool:
    """Whether an answer is a placeholder, or has no letter and no digit. Long ones are not looked at."""
    if len(answer) > SHORT_CHARS:
        return False
    said = answer.strip()
    is_placeholder = said.casefold().strip(".!-_<>[]() ") in _PLACEHOLDERS
    return is_placeholder or not any(map(str.isalnum, said))


def texts_of(example: Example) -> Iterator[str]:
    """What of it is counted in tokens."""
    for message in (*example.messages, *(example.rejected or ())):
        yield message.content


def byte_count_of(example: Example) -> int:
    """Bytes of UTF-8 in its texts."""
    return sum([len(text) if text.isascii() else len(text.encode()) for text in texts_of(example)])
