"""The rows of a CSV file: its delimiter, its header, and each record as what it stands for."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from shared.datasets.cells import shape_of_columns, values_of, with_formula
from shared.datasets.csv_records import Record, Records
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.json_rows import Problem
from shared.datasets.limits import Limits
from shared.datasets.near_misses import asks_and_answers
from shared.datasets.sources import SourceRow

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SNIFFED_RECORDS = 20
_SEP = b"sep="  # how Excel names the delimiter, on a line of its own before the header


@dataclass(frozen=True)
class Table:
    """How a CSV file is laid out. is_known: its columns are those of a format, or could be."""

    delimiter: str
    columns: list[str]
    is_known: bool
    is_even: bool  # more than one column, and as many fields in each of the first records

    @property
    def parted_by(self) -> str:
        return DELIMITERS[self.delimiter]


def table_in(head: bytes, renamed: Mapping[str, str]) -> Table:
    """The most likely layout of a file that begins so; renamed: the file's columns to known ones."""
    if head[:4].lower() == _SEP and (delimiter := head[4:5].decode(errors="replace")) in DELIMITERS:
        head = head.partition(b"\n")[2]
        return _table(head, delimiter, renamed)
    tables = [_table(head, delimiter, renamed) for delimiter in DELIMITERS]
    return max(tables, key=lambda table: (table.is_known, table.is_even, len(table.columns)))


def _table(head: bytes, delimiter: str, renamed: Mapping[str, str]) -> Table:
    whole = head.rpartition(b"\n")[0] if b"\n" in head else head
    records = list(islice(Records(io.BytesIO(whole), delimiter, len(whole) + 1), _SNIFFED_RECORDS))
    columns = _columns(records[0]) if records else []
    named = [renamed.get(name, name) for name in columns]
    is_known = shape_of_columns(named) is not None or asks_and_answers(named) is not None
    is_even = len(columns) > 1 and all(len(record.fields) == len(columns) for record in records)
    return Table(delimiter, columns, is_known, is_even)


def _columns(header: Record) -> list[str]:
    return [with_formula((field or b"").decode(errors="replace")) for field in header.fields]


class CsvRows:
    """Iterates once over the rows, from the beginning of the stream on."""

    def __init__(
        self, stream: BinaryIO, table: Table, limits: Limits, findings: FindingsOf, renamed: Mapping[str, str]
    ) -> None:
        self.row_count = 0
        self._stream = stream
        self._records = Records(stream, table.delimiter, limits.line_bytes)
        self._limits = limits
        self._findings = findings
        self._renamed = renamed
        self._escaped_line: int | None = None  # the first one with an escape taken off

    def __iter__(self) -> Iterator[SourceRow | Finding]:
        records = iter(self._records)
        header = next(records, None)
        if header is not None and header.text[:4].lower() == _SEP:
            header = next(records, None)
        if header is None:
            return
        if refusal := self._refusal(header):
            yield refusal
            return
        columns = _columns(header)
        known = [self._renamed.get(name, name) for name in columns]
        shape = shape_of_columns(known)
        self._records.width = len(columns)
        own = dict(zip(known, columns, strict=True))
        for record in records:
            if record.problem is None and not record.text.strip():
                yield self._findings.warning("empty_line", "The line is empty.", "Take it out.", record.line)
                continue
            self.row_count += 1
            if record.problem:
                yield self._found(record, record.problem)
                continue
            values = values_of(
                dict(zip(known, self._texts(record), strict=True)), shape, self._limits, empty=""
            )
            if isinstance(values, tuple):
                name, problem = values
                message = f"Column {own[name]!r}: {problem.message}"
                yield self._findings.error(problem.rule, message, problem.hint, record.line)
            else:
                row = {own[name]: value for name, value in values.items()} if self._renamed else values
                yield SourceRow(record.line, row)
        if self._escaped_line:
            message = "An apostrophe was taken off before = + - @, a tab or a CR, where it stops formulas."
            hint = "Look whether it was meant as text; if so, write it twice."
            yield self._findings.warning("formula_escape", message, hint, self._escaped_line)

    def _texts(self, record: Record) -> Iterator[str | None]:
        for field in record.fields:
            if field is None:
                yield None
                continue
            cell = field.decode()
            if cell[:1] == "'" and (text := with_formula(cell)) != cell:
                self._escaped_line = self._escaped_line or record.line
                cell = text
            yield cell

    def _found(self, record: Record, problem: Problem) -> Finding:
        if problem.offset is None:
            return self._findings.error(problem.rule, problem.message, problem.hint, record.line)
        before = record.text[: problem.offset]
        line = record.line + before.count(b"\n")
        column = problem.offset - before.rfind(b"\n")
        return self._findings.error(problem.rule, problem.message, problem.hint, line, column)

    def _refusal(self, header: Record) -> Finding | None:
        """Why no row can be read under this header; None when they can."""
        if header.problem:
            return self._found(header, header.problem)
        columns = _columns(header)
        known = [self._renamed.get(name, name) for name in columns]
        if len(columns) > self._limits.keys:
            message = f"{len(columns):,} columns; a row may have {self._limits.keys:,}."
            hint = "Leave out the columns that no training needs."
            return self._findings.error("too_many_keys", message, hint, header.line)
        twice = next((name for name in known if known.count(name) > 1), None)
        if twice is not None:
            hint = "Rename one of them or take it out."
            return self._findings.error(
                "duplicate_column", f"Two columns are called {twice!r}.", hint, header.line
            )
        return None
