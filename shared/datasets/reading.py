"""Examples out of a file, one after another, with what is wrong on the way; no file makes it raise.

Memory holds one row, one block, and the first rows from which the format is told, whatever the file's size;
of Parquet, one row group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from shared.datasets.examples import Example
from shared.datasets.file_rows import FileRows
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.limits import Limits
from shared.datasets.near_misses import likeness
from shared.datasets.shapes import Shape, shape_of
from shared.datasets.sources import ChatRun, SourceRow
from shared.datasets.turns import NotRead

FIRST_ROWS = 100  # that the format is told from
FIRST_BYTES = 2**22  # or as many as have this many bytes


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
        self._renamed = {own: known for known, own in mapping.items()}
        self._rows = FileRows(path, limits, self._renamed)
        self._findings = FindingsOf(path.name)

    @property
    def row_count(self) -> int:
        """So far, those with findings included."""
        return self._rows.row_count

    @property
    def byte_count(self) -> int:
        """About how much of the file is read so far; 0 once it is closed."""
        return self._rows.byte_count

    def __iter__(self) -> Iterator[Example | Finding]:
        return (item for item in self._items(in_runs=False) if not isinstance(item, ChatRun))

    def in_runs(self) -> Iterator[Example | ChatRun | Finding]:
        """The same, with plain chats that stand together given together as soon as the format is told."""
        return self._items(in_runs=True)

    def _items(self, *, in_runs: bool) -> Iterator[Example | ChatRun | Finding]:
        has_errors = False
        rows = iter(self._rows)
        first = list(_first(rows))
        shape = self._detect([row for row in first if isinstance(row, SourceRow)])
        if in_runs and shape and shape.name == "openai" and not self._renamed:
            self._rows.start_runs()
        for row in chain(first, rows):
            if isinstance(row, ChatRun):
                yield row
            elif isinstance(row, Finding):
                has_errors |= row.is_error
                yield row
            else:
                yield from self._example(row.line, row.values, shape)
        if self.row_count == 0 and not has_errors:
            yield self._findings.error(
                "empty_file", "There is no row in it.", "Give a file with a row a line."
            )

    def _detect(self, rows: list[SourceRow]) -> Shape | None:
        shapes = [shape for row in rows if (shape := shape_of(self._named(row.values)))]
        if not shapes:
            return None
        shape, times = Counter(shapes).most_common(1)[0]
        columns = ", ".join(sorted(shape.needs)) + (f" with {shape.mark[0]}" if shape.mark else "")
        evidence = f"{columns} in {times:,} of the first {len(rows):,} rows"
        held = f"{self._rows.evidence}: " if self._rows.evidence else ""
        self.detected = Detected(shape.name, held + evidence)
        return shape

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        return {self._renamed.get(name, name): value for name, value in row.items()} if self._renamed else row

    def _example(self, line: int, row: dict[str, Any], shape: Shape | None) -> Iterator[Example | Finding]:
        named = self._named(row)
        own = shape_of(named)
        if own is None:
            columns = ", ".join(list(row)[:8]) or "none"
            message = f"The row is of no known format; its columns are: {columns}."
            yield self._findings.error("unknown_format", message, likeness(row), line)
        elif shape and own.name != shape.name:
            message = f"The row is {own.name}, but the file is {shape.name}."
            yield self._findings.error(
                "mixed_formats", message, "Put each format into a file of its own.", line
            )
        elif len(named) < len(row):
            hint = "Take the column out that has the name already."
            yield self._findings.error("mapping", "The mapping gives one name to two columns.", hint, line)
        else:
            yield from self._read(named, own, line)

    def _read(self, row: dict[str, Any], shape: Shape, line: int) -> Iterator[Example | Finding]:
        try:
            example = shape.example(row, line)
        except NotRead as reason:
            yield self._findings.error(reason.rule, str(reason), reason.hint, line)
            return
        if len(example.messages) > self.limits.messages:
            message = f"{len(example.messages):,} messages; a row may have {self.limits.messages:,}."
            yield self._findings.error("too_many_messages", message, "Split the conversation.", line)
            return
        for rule, message in shape.remarks(row):
            yield self._findings.warning(rule, message, "Check that this is what was meant.", line)
        yield example


def _first(rows: Iterator[SourceRow | ChatRun | Finding]) -> Iterator[SourceRow | ChatRun | Finding]:
    """As many items as the format is told from."""
    size = 0
    for count, row in enumerate(rows, start=1):
        yield row
        if isinstance(row, SourceRow):
            size += len(str(row.values))
        if count >= FIRST_ROWS or size > FIRST_BYTES:
            return
