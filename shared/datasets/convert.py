"""A file of one format into a file of another: all of it or, when that is wished, the rows that can be."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from shared.datasets.check import LISTED_A_RULE, FileReport
from shared.datasets.examples import Example
from shared.datasets.findings import Finding
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
) -> FileReport:
    """The report on what was converted; its example_count is the number of rows written.

    `output` is written whole or not at all: not when a row cannot be read or held, unless such rows are to be
    skipped, and never when the file cannot be read or no row is left. Raises OSError where it cannot write.
    """
    report = FileReport(path.name)
    reading = Reading(path, limits or Limits(), mapping or {})
    handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            for item in reading:
                _take(item, stream, report, format, with_metadata, listed_a_rule)
            stream.flush()
            os.fsync(stream.fileno())
        if report.is_readable and report.example_count and (report.is_valid or skip_bad_rows):
            os.chmod(name, 0o644)
            os.replace(name, output)
    finally:
        Path(name).unlink(missing_ok=True)
    report.detected, report.row_count = reading.detected, reading.row_count
    return report


def _take(
    item: Example | Finding,
    stream: BinaryIO,
    report: FileReport,
    format: str,
    with_metadata: bool,
    listed_a_rule: int,
) -> None:
    if isinstance(item, Finding):
        report.add(item, listed_a_rule)
        return
    try:
        stream.write(line_of(row_of(item, format, with_metadata=with_metadata)))
    except NotHeld as reason:
        message = f"{format} cannot hold the row: it has {reason}."
        hint = "Choose another format, or leave such rows out."
        report.add(Finding("not_held", "error", message, report.file, item.line, None, hint), listed_a_rule)
        return
    report.example_count += 1
    if item.metadata and not with_metadata:
        columns = ", ".join(list(item.metadata)[:8])
        message = f"Other columns were left out: {columns}."
        hint = "Keep them with --metadata."
        found = Finding("metadata_left_out", "warning", message, report.file, item.line, None, hint)
        report.add(found, listed_a_rule)
