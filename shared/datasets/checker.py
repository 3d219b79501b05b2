"""What speaks against training on rows: each row by itself, and all of them together.

The same for the rows of files and for the pairs of the stack. A row with an error counts in no statistic.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from shared.datasets.chats import Turn, example_of, key_of
from shared.datasets.examples import Example
from shared.datasets.findings import Finding, Severity
from shared.datasets.lengths import BINS, Lengths
from shared.datasets.model import Message, takes_turns
from shared.datasets.repeats import Repeats
from shared.datasets.sample import Sample
from shared.datasets.sensitive import may_be_sensitive, sensitive_in
from shared.datasets.sources import ChatRun
from shared.datasets.writing import NotHeld, line_of, row_of
from shared.documents.language import language_of
from shared.tokens import count_tokens, counts_exactly

FEW_ROWS = 10  # the fewest that OpenAI trains on
MAX_TOKENS = 4096  # a row
MAX_FILE_BYTES = 100 * 2**20
OPENAI_FORMATS = ("openai", "openai_preference")
_ROLE = re.compile("system|user|assistant|tool")
_BYTES_A_TOKEN = 4  # when tokens are estimated: of UTF-8, over all languages
_SHORT_CHARS = 16  # a longer answer is not near-empty
_PLACEHOLDERS = {"n/a", "na", "none", "null", "nil", "nan", "todo", "tbd", "tba", "xxx", "empty", "no answer"}
_LANGUAGE_ROWS, _LANGUAGE_CHARS = 100, 500  # of so many answers, and of so much of them, the language is told
_LANGUAGE_SHARE = 0.05  # of them in another language than most: told


@dataclass(frozen=True)
class Stats:
    """Over the rows without an error."""

    row_count: int
    mean_tokens: float  # a row, all its messages together; 0 when there is no row
    is_exact: bool  # whether the tokens are counted, not estimated
    mean_quality: float | None  # 0-1; None: no row has a score
    question_count: int  # different first messages of users
    histogram: list[int]  # rows by tokens, see lengths.BINS
    languages: dict[str, float]  # shares of the rows looked at, the largest first

    def bins(self) -> Iterator[tuple[int, int | None, int]]:
        """The histogram: from so many tokens, to below so many (None: no end), and the rows between."""
        return zip(BINS, (*BINS[1:], None), self.histogram, strict=True)

    def as_dict(self) -> dict[str, Any]:
        """As in the result of validate-dataset, and what files are told besides."""
        return {
            "totalPairs": self.row_count,
            "avgTokensPerPair": round(self.mean_tokens, 2),
            "tokensAreExact": self.is_exact,
            "avgQualityScore": None if self.mean_quality is None else round(self.mean_quality, 4),
            "uniqueQuestions": self.question_count,
            "tokenHistogram": [{"from": low, "below": high, "rows": rows} for low, high, rows in self.bins()],
            "languages": {code: round(share, 4) for code, share in self.languages.items()},
        }


class Checker:
    """Takes rows one after another: `add` what is wrong with each, `finish` what is wrong with all, `stats`.

    Memory: 32 bytes a row, whatever it says.
    """

    def __init__(
        self, *, format: str, file: str | None = None, place: str = "line", must_fit: bool = False
    ) -> None:
        """format: what the rows are written in, or will be. file: named in findings. place: what findings
        call an example's `line`.

        must_fit: they are to be trained on as they are, so it is an error when the format cannot hold a row,
        or there are too few. Preferences and labelled rows are then held by formats of their own.
        """
        self._format = format
        self._file = file
        self._place = place
        self._must_fit = must_fit
        self._lines = array("I")
        self._rows, self._prompts, self._questions = Repeats(), Repeats(), Repeats()
        self._lengths = Lengths()
        self._byte_count = 0  # as they will be written; counted when they must fit
        self._is_exact = True
        self._qualities, self._quality_rows = 0.0, 0
        self._answers = Sample(_LANGUAGE_ROWS)

    def add(
        self, example: Example, *, token_count: int | None = None, quality: float | None = None
    ) -> list[Finding]:
        """What is wrong with this row.

        token_count: of all its messages; None: estimated, and counted when it may be over the limit.
        """
        byte_count = _byte_count(example)
        tokens = -(-byte_count // _BYTES_A_TOKEN) if token_count is None else token_count
        found = [*self._about(example), *self._too_long(example, token_count, byte_count)]
        if not any(finding.is_error for finding in found):
            self._is_exact &= token_count is not None
            self._count(example, tokens, quality)
        return found

    def add_run(self, run: ChatRun) -> Iterator[Finding]:
        """The same for plain chats with nothing sensitive in them: what is in order is only counted.

        For rows of files, which need not fit.
        """
        rows, sizes, odd = [chat.messages for chat in run.chats], [], list[int]()
        for place, turns in enumerate(rows):
            roles, size, text = "", 0, ""
            for turn in turns:
                text = turn.content
                roles += turn.role
                size += len(text) if text.isascii() else len(text.encode())
                if not text or text.isspace():
                    odd.append(place)
            sizes.append(-(-size // _BYTES_A_TOKEN))
            is_short = len(text) <= _SHORT_CHARS and _says_nothing(text)
            if is_short or size > MAX_TOKENS or not _in_order(roles):
                odd.append(place)
        start = 0
        for place in [*sorted({*odd}), len(rows)]:
            self._count_run(run.line + start, rows[start:place], sizes[start:place])
            if place < len(rows):
                yield from self.add(example_of(run.chats[place], run.line + place))
            start = place + 1

    def _count_run(self, line: int, rows: list[tuple[Turn, ...]], sizes: list[int]) -> None:
        if not rows:
            return
        self._is_exact = False
        while self._answers.next < len(self._lines) + len(rows):
            turns = rows[self._answers.next - len(self._lines)]
            self._answers.take(turns[-1].content[:_LANGUAGE_CHARS])
        self._lines.extend(range(line, line + len(rows)))
        self._lengths.tokens.extend(sizes)
        self._rows.keys.extend(map(hash, rows))
        self._prompts.keys.extend([hash(turns[:-1]) for turns in rows])
        # As key_of has them: the first message of the user is behind that of the system.
        self._questions.keys.extend([hash(turns[turns[0].role == "system"].content) for turns in rows])

    def finish(self, byte_size: int | None = None) -> Iterator[Finding]:
        """What is wrong with all of them together; byte_size: of their file, when there is one."""
        yield from self._whole(byte_size)
        yield from self._repeated()
        yield from self._outliers()
        yield from self._mixed_languages()

    def stats(self) -> Stats:
        return Stats(
            row_count=len(self._lines),
            mean_tokens=self._lengths.mean,
            is_exact=self._is_exact,
            mean_quality=self._qualities / self._quality_rows if self._quality_rows else None,
            question_count=self._questions.distinct_count,
            histogram=self._lengths.histogram(),
            languages=self._language_shares(),
        )

    def _language_shares(self) -> dict[str, float]:
        told = Counter(map(language_of, self._answers.texts))
        return {code: times / told.total() for code, times in told.most_common()}

    def _count(self, example: Example, tokens: int, quality: float | None) -> None:
        if len(self._lines) == self._answers.next:
            self._answers.take(example.messages[-1].content[:_LANGUAGE_CHARS])
        self._lines.append(example.line)
        self._lengths.tokens.append(tokens)
        row, prompt, question = key_of(example)
        self._rows.keys.append(row)
        self._prompts.keys.append(prompt)
        self._questions.keys.append(question)
        if quality is not None:
            self._qualities += quality
            self._quality_rows += 1

    def _found(
        self, rule: str, message: str, hint: str, line: int | None = None, *, is_error: bool = False
    ) -> Finding:
        severity: Severity = "error" if is_error else "warning"
        return Finding(rule, severity, message, self._file, line, None, hint)

    def _about(self, example: Example) -> Iterator[Finding]:
        messages, line = example.messages, example.line

        def wrong(rule: str, message: str, hint: str) -> Finding:
            return self._found(rule, message, hint, line, is_error=True)

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
                self._byte_count += len(line_of(row_of(example, self._held_as(example))))
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
        if answer.role == "assistant" and not answer.tool_calls and _says_nothing(answer.content):
            message = f"The answer is only {answer.content.strip()!r}."
            hint = "Write an answer, unless the model is to give this one."
            yield self._found("near_empty_answer", message, hint, example.line)

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
                    yield self._found(found.rule, f"{what}: {found.shown}.", found.hint, example.line)

    def _too_long(self, example: Example, token_count: int | None, byte_count: int) -> Iterator[Finding]:
        """A token is at least a byte long, so most rows are short enough without being counted."""
        is_counted = token_count is not None
        if token_count is None and byte_count > MAX_TOKENS:
            token_count = sum(count_tokens(text) for text in texts_of(example))
            is_counted = counts_exactly()
        if token_count is not None and token_count > MAX_TOKENS:
            about = "" if is_counted else "about "
            message = f"{about}{token_count:,} tokens; OpenAI takes {MAX_TOKENS:,} and cuts off the rest."
            is_error = self._format in OPENAI_FORMATS
            yield self._found("too_long", message, "Shorten or split it.", example.line, is_error=is_error)

    def _whole(self, byte_size: int | None) -> Iterator[Finding]:
        rows = len(self._lines)
        if rows < FEW_ROWS and (rows or self._must_fit):
            what = "pairs without an error" if self._must_fit else "rows"
            yield self._found(
                "few_rows",
                f"{rows} {what}; at least {FEW_ROWS} are needed to train.",
                "Add some.",
                is_error=self._must_fit,
            )
        size = self._byte_count if byte_size is None else byte_size
        if size > MAX_FILE_BYTES and self._format in OPENAI_FORMATS:
            message = f"{size:,} bytes; OpenAI takes files of {MAX_FILE_BYTES:,}."
            hint = "Split the file, or shorten the longest rows."
            yield self._found("over_100_mb", message, hint, is_error=True)

    def _repeated(self) -> Iterator[Finding]:
        for first, number in self._rows.pairs():
            message = f"The same as {self._place} {self._lines[first]}."
            hint = "Take it out; a repeated row weighs double in training."
            yield self._found("duplicate_row", message, hint, self._lines[number])
        for first, number in self._prompts.pairs():
            if self._rows.keys[first] != self._rows.keys[number]:
                message = f"Asks what {self._place} {self._lines[first]} asks, with another answer."
                hint = "Make the questions tell the answers apart, or take one out."
                yield self._found("duplicate_question", message, hint, self._lines[number])

    def _outliers(self) -> Iterator[Finding]:
        for number, tokens, median in self._lengths.outliers():
            message = f"{tokens:,} tokens, where half of the rows have no more than {median:,}."
            hint = "Look whether the row is whole, and one row."
            yield self._found("length_outlier", message, hint, self._lines[number])

    def _mixed_languages(self) -> Iterator[Finding]:
        shares = self._language_shares()
        others = {code: share for code, share in list(shares.items())[1:] if share >= _LANGUAGE_SHARE}
        if others:
            said = ", ".join(f"{code} {share:.0%}" for code, share in list(shares.items())[: 1 + len(others)])
            hint = "Fine when this is meant; else the model may answer in the wrong one."
            yield self._found("language_mix", f"Answers in several languages: {said}.", hint)


def _system_first(messages: Sequence[Message]) -> bool:
    return all(message.role != "system" for message in messages[1:])


@lru_cache(maxsize=4096)
def _in_order(roles: str) -> bool:
    """Whether chats of these roles, written one behind the other, are in order. No role begins another."""
    messages = [Message(role, "") for role in _ROLE.findall(roles)]
    return _system_first(messages) and takes_turns(messages) and messages[-1].role == "assistant"


def _says_nothing(answer: str) -> bool:
    if len(answer) > _SHORT_CHARS:
        return False
    said = answer.strip()
    is_placeholder = said.casefold().strip(".!-_<>[]() ") in _PLACEHOLDERS
    return is_placeholder or not any(map(str.isalnum, said))


def texts_of(example: Example) -> Iterator[str]:
    """What of it is counted in tokens."""
    for message in (*example.messages, *(example.rejected or ())):
        yield message.content


def _byte_count(example: Example) -> int:
    return sum([len(text) if text.isascii() else len(text.encode()) for text in texts_of(example)])
