"""What speaks against training on rows: each row by itself, and all of them together.

The same for the rows of files and for the pairs of the stack. A row with an error counts in no statistic.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.datasets.chats import Turn, example_of, key_of
from shared.datasets.examples import Example
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.lengths import BINS, Lengths
from shared.datasets.repeats import Repeats
from shared.datasets.row_rules import (
    BYTES_A_TOKEN,
    MAX_TOKENS,
    OPENAI_FORMATS,
    SHORT_CHARS,
    RowRules,
    byte_count_of,
    in_order,
    says_nothing,
)
from shared.datasets.sample import Sample
from shared.datasets.sources import ChatRun
from shared.documents.language import language_of

FEW_ROWS = 10  # the fewest that OpenAI trains on
MAX_FILE_BYTES = 100 * 2**20
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

    Memory: 32 bytes a row, whatever it says, and 4 more where questions are repeated.
    """

    def __init__(
        self, *, format: str, file: str | None = None, place: str = "line", must_fit: bool = False
    ) -> None:
        """format: what the rows are written in, or will be. file: named in findings. place: what findings
        call an example's `line`.

        must_fit: they are to be trained on as they are, so it is an error when the format cannot hold a row,
        or there are too few: see RowRules.
        """
        self._format = format
        self._findings = FindingsOf(file)
        self._place = place
        self._must_fit = must_fit
        self._lines = array("I")
        self._repeats = Repeats()
        self._lengths = Lengths()
        self._rules = RowRules(format, self._findings, must_fit=must_fit)
        self._is_exact = True
        self._qualities, self._quality_rows = 0.0, 0
        self._answers = Sample(_LANGUAGE_ROWS)

    def add(
        self, example: Example, *, token_count: int | None = None, quality: float | None = None
    ) -> list[Finding]:
        """What is wrong with this row.

        token_count: of all its messages; None: estimated, and counted when it may be over the limit.
        """
        byte_count = byte_count_of(example)
        tokens = -(-byte_count // BYTES_A_TOKEN) if token_count is None else token_count
        found = [*self._rules.about(example, token_count, byte_count)]
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
                if not text.strip():
                    odd.append(place)
            sizes.append(-(-size // BYTES_A_TOKEN))
            is_short = len(text) <= SHORT_CHARS and says_nothing(text)
            if is_short or size > MAX_TOKENS or not in_order(roles):
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
        self._repeats.rows.extend(map(hash, rows))
        self._repeats.prompts.extend([hash(turns[:-1]) for turns in rows])
        # As key_of has them: the first message of the user is behind that of the system.
        self._repeats.questions.extend([hash(turns[turns[0].role == "system"].content) for turns in rows])

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
            question_count=self._repeats.question_count,
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
        self._repeats.rows.append(row)
        self._repeats.prompts.append(prompt)
        self._repeats.questions.append(question)
        if quality is not None:
            self._qualities += quality
            self._quality_rows += 1

    def _whole(self, byte_size: int | None) -> Iterator[Finding]:
        rows = len(self._lines)
        if rows < FEW_ROWS and (rows or self._must_fit):
            what = "pairs without an error" if self._must_fit else "rows"
            tell = self._findings.error if self._must_fit else self._findings.warning
            yield tell("few_rows", f"{rows} {what}; at least {FEW_ROWS} are needed to train.", "Add some.")
        size = self._rules.written_bytes if byte_size is None else byte_size
        if size > MAX_FILE_BYTES and self._format in OPENAI_FORMATS:
            message = f"{size:,} bytes; OpenAI takes files of {MAX_FILE_BYTES:,}."
            hint = "Split the file, or shorten the longest rows."
            yield self._findings.error("over_100_mb", message, hint)

    def _repeated(self) -> Iterator[Finding]:
        for first, number in self._repeats.of_rows():
            message = f"The same as {self._place} {self._lines[first]}."
            hint = "Take it out; a repeated row weighs double in training."
            yield self._findings.warning("duplicate_row", message, hint, self._lines[number])
        for first, number in self._repeats.of_prompts():
            if self._repeats.rows[first] != self._repeats.rows[number]:
                message = f"Asks what {self._place} {self._lines[first]} asks, with another answer."
                hint = "Make the questions tell the answers apart, or take one out."
                yield self._findings.warning("duplicate_question", message, hint, self._lines[number])

    def _outliers(self) -> Iterator[Finding]:
        for number, tokens, median in self._lengths.outliers():
            message = f"{tokens:,} tokens, where half of the rows have no more than {median:,}."
            hint = "Look whether the row is whole, and one row."
            yield self._findings.warning("length_outlier", message, hint, self._lines[number])

    def _mixed_languages(self) -> Iterator[Finding]:
        shares = self._language_shares()
        others = {code: share for code, share in list(shares.items())[1:] if share >= _LANGUAGE_SHARE}
        if others:
            said = ", ".join(f"{code} {share:.0%}" for code, share in list(shares.items())[: 1 + len(others)])
            hint = "Fine when this is meant; else the model may answer in the wrong one."
            yield self._findings.warning("language_mix", f"Answers in several languages: {said}.", hint)
