"""A file of one format into a file of another: all of it or, when that is wished, the rows that can be."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from shared.datasets.cells import shape_of_columns
from shared.datasets.check import LISTED_A_RULE, FileReport
from shared.datasets.containers import Container, container_of, write_container
from shared.datasets.examples import Example
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.limits import Limits
from shared.datasets.reading import Reading
from shared.datasets.writing import NotHeld, line_of, row_of


def convert_file(
    path: Path,
    format: str,
    output: Path,
    *,
    limits: Limits | None = None,
    mapping: Mapping[str, str] | None = None,
    with_metadata: bool = False,
    skip_bad_rows: bool = False,
    listed_a_rule: int = LISTED_A_RULE,
    progress: Callable[[int], None] | None = None,
) -> FileReport:
    """The report on what was converted; its example_count is the number of rows written.

    The suffix of `output` says what holds the rows: .jsonl (also when it is none of these), .json, .csv or
    .parquet. It is written whole or not at all: not when a row cannot be read or held, unless such rows are
    to be skipped, and never when the file cannot be read or no row is left. Raises OSError where it cannot
    write. progress: is told how many bytes were read, now and then.
    """
    report = FileReport(path.name)
    conversion = _Conversion(report, format, container_of(output) or "jsonl", with_metadata, listed_a_rule)
    reading = Reading(path, limits or Limits(), mapping or {})
    drafts = [_draft(output), _draft(output)]
    try:
        with drafts[0].open("wb") as stream:
            for item in reading:
                conversion.take(item, stream)
                if progress and reading.row_count % 256 == 0:
                    progress(reading.byte_count)
        conversion.check_columns()
        if report.is_readable and report.example_count and (report.is_valid or skip_bad_rows):
            done = conversion.finish(*drafts)
            with done.open("rb") as written:
                os.fsync(written.fileno())
            done.chmod(0o644)
            done.replace(output)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    report.detected, report.row_count = reading.detected, reading.row_count
    return report


def _draft(output: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    os.close(handle)
    return Path(name)


class _Conversion:
    """Writes rows of the format as JSONL, and that as what holds them in the end."""

    def __init__(
        self,
        report: FileReport,
        format: str,
        container: Container,
        with_metadata: bool,
        listed_a_rule: int,
    ) -> None:
        self._report = report
        self._format = format
        self._container = container
        self._with_metadata = with_metadata
        self._listed_a_rule = listed_a_rule
        self._findings = FindingsOf(report.file)
        self._columns: set[str] = set()  # of all rows together
        self._beside: set[str] = set()  # those of them that are none of the format

    def take(self, item: Example | Finding, stream: BinaryIO) -> None:
        if isinstance(item, Finding):
            self._add(item)
            return
        try:
            row = row_of(item, self._format, with_metadata=self._with_metadata)
        except NotHeld as reason:
            message = f"{self._format} cannot hold the row: it has {reason}."
            hint = "Choose another format, or leave such rows out."
            self._add(self._findings.error("not_held", message, hint, item.line))
            return
        stream.write(line_of(row))
        self._report.example_count += 1
        self._columns |= row.keys()
        if item.metadata and self._with_metadata:
            self._beside |= item.metadata.keys()
        elif item.metadata:
            columns = ", ".join(list(item.metadata)[:8])
            message = f"Other columns were left out: {columns}."
            self._add(
                self._findings.warning("metadata_left_out", message, "Keep them with --metadata.", item.line)
            )

    def check_columns(self) -> None:
        """In a table every row has the columns of all; these must not make another format of it."""
        if self._container in ("csv", "parquet") and shape_of_columns(self._columns) != shape_of_columns(
            self._columns - self._beside
        ):
            message = f"The other columns of all rows together make another format of it than {self._format}."
            hint = "Leave them out, or write JSONL."
            self._report.example_count = 0
            self._add(self._findings.error("not_held", message, hint))

    def finish(self, source: Path, target: Path) -> Path:
        """Which of the two has what was asked for: the JSONL of `source` or what was made of it."""
        if self._container == "jsonl":
            return source
        if changed := write_container(source, target, self._container):
            columns = ", ".join(changed[:8])
            message = f"In {self._container} these columns come back as text or as nothing: {columns}."
            hint = "Write JSONL to keep numbers, lists and nulls as they are."
            self._add(self._findings.warning("not_kept", message, hint))
        return target

    def _add(self, finding: Finding) -> None:
        self._report.add(finding, self._listed_a_rule)
