"""Examples out of a file, one after another, with what is wrong on the way; no file makes it raise.

Memory holds one row, one block, and the first rows from which the format is told, whatever the file's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson

from shared.datasets.examples import Example
from shared.datasets.findings import Finding, Severity
from shared.datasets.json_rows import Problem, parse
from shared.datasets.json_values import Values
from shared.datasets.limits import Limits
from shared.datasets.lines import Lines
from shared.datasets.near_misses import likeness
from shared.datasets.shapes import Shape, shape_of
from shared.datasets.turns import NotRead

FIRST_ROWS = 100  # that the format is told from
FIRST_BYTES = 2**22  # or as many as have this many bytes
_PEEKED_BYTES = 2**16
_BOM = b"\xef\xbb\xbf"
_REFUSED = (  # how a file begins, what that is, what to do
    (b"\x1f\x8b", "compressed", "gzip", "Unpack it first: gunzip."),
    (b"PK\x03\x04", "compressed", "zip", "Unpack it first: unzip."),
    (b"BZh", "compressed", "bzip2", "Unpack it first: bunzip2."),
    (b"\xfd7zXZ", "compressed", "xz", "Unpack it first: unxz."),
    (b"\x28\xb5\x2f\xfd", "compressed", "zstandard", "Unpack it first: unzstd."),
    (b"PAR1", "not_text", "Parquet", "Write it as JSONL first."),
    (b"\xff\xfe", "not_utf8", "UTF-16", "Save it as UTF-8."),
    (b"\xfe\xff", "not_utf8", "UTF-16", "Save it as UTF-8."),
)
UNREADABLE = {"unreadable", "compressed", "not_text", "not_utf8", "csv", "file_too_large"}

Parsed = tuple[int, dict[str, Any]]  # the number of the line that it begins on, the row


@dataclass(frozen=True)
class Detected:
    """The format of a file and why it is thought to be that."""

    format: str
    evidence: str


def read_examples(
    path: Path, limits: Limits | None = None, mapping: Mapping[str, str] | None = None
) -> Iterator[Example | Finding]:
    """Every row of the file as an example, or as the finding that keeps it out; warnings stand before theirs.

    mapping: names that the formats know, to the columns of this file that stand for them.
    """
    return iter(Reading(path, limits or Limits(), mapping or {}))


class Reading:
    """Iterates once over a file. `detected` is known when it has been; None: of no known format."""

    def __init__(self, path: Path, limits: Limits, mapping: Mapping[str, str]) -> None:
        self.path = path
        self.limits = limits
        self.detected: Detected | None = None
        self.row_count = 0  # so far, those with findings included
        self._renamed = {own: known for known, own in mapping.items()}

    def __iter__(self) -> Iterator[Example | Finding]:
        try:
            with self.path.open("rb") as stream:
                yield from self._examples(stream)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            yield self._found("unreadable", f"It cannot be read: {reason}.", "Check its name and its rights.")

    def _examples(self, stream: BinaryIO) -> Iterator[Example | Finding]:
        refusal = self._refusal(stream)
        if refusal:
            yield refusal
            return
        yield from self._without_bom(stream)
        rows = self._rows(stream)
        first = list(_first(rows))
        shape = self._detect([row for row in first if not isinstance(row, Finding)])
        for row in chain(first, rows):
            if isinstance(row, Finding):
                yield row
            else:
                yield from self._example(*row, shape)
        if self.row_count == 0:
            yield self._found("empty_file", "There is no row in it.", "Give a file with a row a line.")

    def _refusal(self, stream: BinaryIO) -> Finding | None:
        size = stream.seek(0, 2)
        if size > self.limits.file_bytes:
            message = f"{size:,} bytes; a file may have {self.limits.file_bytes:,}."
            return self._found("file_too_large", message, "Split it.")
        if self.path.suffix.casefold() in (".csv", ".tsv"):
            return self._found("csv", "Tables of CSV are not read.", "Write it as JSONL first.")
        stream.seek(0)
        start = stream.read(8)
        stream.seek(0)
        for magic, rule, name, hint in _REFUSED:
            if start.startswith(magic):
                return self._found(rule, f"It is {name}, not text.", hint, line=1, column=1)
        return None

    def _without_bom(self, stream: BinaryIO) -> Iterator[Finding]:
        if stream.read(len(_BOM)) != _BOM:
            stream.seek(0)
            return
        message = "A byte order mark stands before the first row; it was taken off."
        hint = "Save the file as UTF-8 without BOM; other readers may refuse it."
        yield self._found("bom", message, hint, line=1, column=1, is_error=False)

    def _rows(self, stream: BinaryIO) -> Iterator[Parsed | Finding]:
        kind = _layout(stream, self.path.suffix)
        yield from self._of_lines(stream) if kind == "lines" else self._of_values(stream, kind == "list")

    def _of_lines(self, stream: BinaryIO) -> Iterator[Parsed | Finding]:
        lines = Lines(stream, self.limits.line_bytes)
        for number, line in lines:
            if line is not None and not line.strip():
                hint = "Take the line out."
                yield self._found("empty_line", "The line is empty.", hint, number, is_error=False)
            else:
                yield self._row(number, 1, line, is_open=lines.is_open)
        if lines.first_crlf:
            message = "Lines end in CR LF, as on Windows; read as LF."
            yield self._found("crlf", message, "Save with LF.", lines.first_crlf, is_error=False)

    def _of_values(self, stream: BinaryIO, in_list: bool) -> Iterator[Parsed | Finding]:
        values = Values(stream, self.limits.line_bytes, in_list=in_list)
        for line, column, text in values:
            yield self._row(line, column, text, is_open=values.end is not None)
        if values.end:
            hint = "Write or download the file again, as one JSON list."
            yield self._found("broken_list", values.end, hint)

    def _row(self, line: int, column: int, text: bytes | None, *, is_open: bool) -> Parsed | Finding:
        self.row_count += 1
        if text is None:
            message = f"The row has more than {self.limits.line_bytes:,} bytes."
            return self._found("line_too_long", message, "Shorten the row or split it.", line)
        value = parse(text, self.limits)
        if type(value) is dict:
            return line, value
        if isinstance(value, Problem):
            return self._problem(value, line, column, text, is_open=is_open)
        hint = 'Write objects: {"messages": [...]}.'
        return self._found("not_an_object", "The row is no JSON object.", hint, line, column)

    def _problem(self, problem: Problem, line: int, column: int, text: bytes, *, is_open: bool) -> Finding:
        place: int | None = None
        if problem.offset is not None:
            before = text[: problem.offset]
            line += before.count(b"\n")
            place = problem.offset - before.rfind(b"\n") + (0 if b"\n" in before else column - 1)
        if is_open and problem.rule == "json_syntax":
            message = "The last row breaks off: the file ends within it."
            hint = "Write or download the file again; it is incomplete."
            return self._found("unclosed_last_line", message, hint, line, place)
        return self._found(problem.rule, problem.message, problem.hint, line, place)

    def _detect(self, rows: list[Parsed]) -> Shape | None:
        shapes = [shape for _, row in rows if (shape := shape_of(self._named(row)))]
        if not shapes:
            return None
        shape, times = Counter(shapes).most_common(1)[0]
        columns = ", ".join(sorted(shape.needs)) + (f" with {shape.mark[0]}" if shape.mark else "")
        evidence = f"{columns} in {times:,} of the first {len(rows):,} rows"
        self.detected = Detected(shape.name, evidence)
        return shape

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        return {self._renamed.get(name, name): value for name, value in row.items()} if self._renamed else row

    def _example(self, line: int, row: dict[str, Any], shape: Shape | None) -> Iterator[Example | Finding]:
        named = self._named(row)
        own = shape_of(named)
        if own is None:
            columns = ", ".join(list(row)[:8]) or "none"
            message = f"The row is of no known format; its columns are: {columns}."
            yield self._found("unknown_format", message, likeness(row), line)
        elif shape and own.name != shape.name:
            message = f"The row is {own.name}, but the file is {shape.name}."
            yield self._found("mixed_formats", message, "Put each format into a file of its own.", line)
        elif len(named) < len(row):
            hint = "Take the column out that has the name already."
            yield self._found("mapping", "The mapping gives one name to two columns.", hint, line)
        else:
            yield from self._read(named, own, line)

    def _read(self, row: dict[str, Any], shape: Shape, line: int) -> Iterator[Example | Finding]:
        try:
            example = shape.example(row, line)
        except NotRead as reason:
            yield self._found(reason.rule, str(reason), reason.hint, line)
            return
        if len(example.messages) > self.limits.messages:
            message = f"{len(example.messages):,} messages; a row may have {self.limits.messages:,}."
            yield self._found("too_many_messages", message, "Split the conversation.", line)
            return
        for rule, message in shape.remarks(row):
            yield self._found(rule, message, "Check that this is what was meant.", line, is_error=False)
        yield example

    def _found(
        self,
        rule: str,
        message: str,
        hint: str,
        line: int | None = None,
        column: int | None = None,
        *,
        is_error: bool = True,
    ) -> Finding:
        severity: Severity = "error" if is_error else "warning"
        return Finding(rule, severity, message, self.path.name, line, column, hint)


def _first(rows: Iterator[Parsed | Finding]) -> Iterator[Parsed | Finding]:
    """As many items as the format is told from."""
    size = 0
    for count, row in enumerate(rows, start=1):
        yield row
        if not isinstance(row, Finding):
            size += len(str(row[1]))
        if count >= FIRST_ROWS or size > FIRST_BYTES:
            return


def _layout(stream: BinaryIO, suffix: str) -> Literal["lines", "list", "values"]:
    """How rows stand in the file: one a line, in a JSON list, or as objects over lines (.json)."""
    begin = stream.tell()
    text = stream.read(_PEEKED_BYTES)
    stream.seek(begin)
    start = text.lstrip()
    first = start.partition(b"\n")[0]
    if start[:1] == b"[" and (suffix == ".json" or len(first) == len(start) or not _is_json(first)):
        return "list"
    return "values" if start[:1] == b"{" and suffix == ".json" and not _is_json(first) else "lines"


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
