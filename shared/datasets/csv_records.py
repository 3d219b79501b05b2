"""The records of a CSV file (RFC 4180), however it is damaged, with no more than one of them in memory.

A record over several lines that goes wrong is most often one with a quotation mark too many: it alone is
given up, and reading goes on at its second line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from shared.datasets.json_rows import Problem
from shared.datasets.lines import Lines

_QUOTE = b'"'
_CLOSE = "Close it. One within a field is written twice, and the field between two of them."


@dataclass(frozen=True)
class Record:
    """A record as it stands from `line` on. A field is None when there is nothing between its two delimiters,
    not even quotation marks. problem: why it cannot be read; its fields are then those before it.
    """

    line: int
    text: bytes
    fields: list[bytes | None]
    problem: Problem | None = None


class Records:
    """Iterates once over the records. `width` may be set once the header is known: the number of fields."""

    def __init__(self, stream: BinaryIO, delimiter: str, record_bytes: int) -> None:
        self._lines = iter(Lines(stream, record_bytes, keep_cr=True))
        self._put_back: deque[tuple[int, bytes | None]] = deque()
        self._delimiter = delimiter.encode()
        self._record_bytes = record_bytes
        # Where the field begins that goes on in the second line of a record.
        self._opened_at: int | None = None
        self.width: int | None = None

    def __iter__(self) -> Iterator[Record]:
        while (given := self._next_line()) is not None:
            number, line = given
            if line is None:
                message = f"The line has more than {self._record_bytes:,} bytes."
                problem = Problem("line_too_long", message, "Shorten the row or split it.")
                yield Record(number, b"", [], problem)
            elif _QUOTE in line:
                yield self._quoted(number, line)
            else:
                text = line.removesuffix(b"\r")
                fields = [field or None for field in text.split(self._delimiter)]
                yield self._checked(Record(number, text, fields))

    def _next_line(self) -> tuple[int, bytes | None] | None:
        return self._put_back.popleft() if self._put_back else next(self._lines, None)

    def _quoted(self, number: int, line: bytes) -> Record:
        """The record that begins with this line; the lines after it that it did not need are put back."""
        taken: list[tuple[int, bytes | None]] = []
        text, fields = bytearray(line), list[bytes | None]()
        self._opened_at = None
        problem = self._parse(text, fields, taken)
        record = Record(number, bytes(text).removesuffix(b"\r"), fields, problem)
        if taken and (problem or self._ragged(record)):
            self._put_back.extendleft(reversed(taken))
            message = "A quotation mark opens a field that is not closed, or not where a field ends."
            return Record(number, line, fields, Problem("open_quote", message, _CLOSE, self._opened_at))
        return self._checked(record)

    def _parse(
        self, text: bytearray, fields: list[bytes | None], taken: list[tuple[int, bytes | None]]
    ) -> Problem | None:
        """Fills `fields`, and `text` and `taken` with further lines as long as a field is open."""
        at = 0
        while True:
            if text[at : at + 1] == _QUOTE:
                end = self._end_of_quoted(text, at, taken)
                if end is None:
                    message = "A quotation mark opens a field that is never closed."
                    return Problem("open_quote", message, _CLOSE, at)
                fields.append(bytes(text[at + 1 : end]).replace(b'""', b'"'))
                at = end + 1
                if bytes(text[at : at + 2]) in (b"", b"\r"):
                    return None
                if text[at : at + 1] != self._delimiter:
                    message = "Something stands between a closing quotation mark and the delimiter."
                    hint = "A quotation mark within a field is written twice, with none before or behind it."
                    return Problem("stray_quote", message, hint, at)
            else:
                end = text.find(self._delimiter, at)
                field = bytes(text[at:] if end < 0 else text[at:end])
                if field[:1] == b" " and field.lstrip(b" ")[:1] == _QUOTE:
                    hint = "Take the blank out; else the quotation marks count as text."
                    return Problem("stray_quote", "A blank stands before a quotation mark.", hint, at)
                if end < 0:
                    fields.append(field.removesuffix(b"\r") or None)
                    return None
                fields.append(field or None)
                at = end
            at += 1

    def _end_of_quoted(self, text: bytearray, at: int, taken: list[tuple[int, bytes | None]]) -> int | None:
        """Where the field that is opened at `at` is closed; None when it is not, within the limit."""
        end = at + 1
        while True:
            end = text.find(_QUOTE, end)
            if end >= 0:
                if text[end + 1 : end + 2] != _QUOTE:
                    return end
                end += 2
                continue
            end = len(text)
            self._opened_at = at if self._opened_at is None else self._opened_at
            given = self._next_line()
            if given is None:
                return None
            taken.append(given)
            if given[1] is None or len(text) + len(given[1]) >= self._record_bytes:
                return None
            text += b"\n" + given[1]

    def _checked(self, record: Record) -> Record:
        """The same record, with the problem that its bytes or the number of its fields are."""
        problem = record.problem or _bad_text(record.text) or self._ragged(record)
        return record if problem is None else Record(record.line, record.text, record.fields, problem)

    def _ragged(self, record: Record) -> Problem | None:
        found, width = len(record.fields), self.width
        if width is None or found == width or not record.text.strip():
            return None
        hint = "Put fields with a delimiter or a line break in them between quotation marks."
        return Problem("ragged_row", f"{found} fields, where the header has {width}.", hint)


def _bad_text(text: bytes) -> Problem | None:
    if (at := text.find(b"\0")) >= 0:
        hint = "Take it out or write a blank."
        return Problem("nul", "A NUL character, which no database stores as text.", hint, at)
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        message = f"The byte 0x{text[wrong.start]:02x} is not UTF-8 here."
        return Problem("bad_utf8", message, 'Save the file as UTF-8, in Excel as "CSV UTF-8".', wrong.start)
    return None
