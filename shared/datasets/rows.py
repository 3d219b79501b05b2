"""Rows of a file of any shape, as splitting and deduplication see them: what they say, and whence.

A row is read for its words alone, so that every format is split alike. Lines of JSONL are copied untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shared.datasets.file_rows import UNREADABLE, FileRows
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.sources import SourceRow
from shared.errors import InvalidRequest

# Not `source`: in published datasets it names a collection, which would make one group of most rows.
SOURCE_FIELDS = ("document_id", "doc_id", "document", "source_document")
# Said by many rows alike, or not said at all.
_NOT_SAID = {"system", "system_message", "role", "from", "id", "metadata", "tools", "weight", *SOURCE_FIELDS}


@dataclass(frozen=True)
class PlainRow:
    """One row of a file. line: from 1, where it begins; in Parquet the number of the row.

    text: everything that is said, without system messages. source: the document it rests on; None: not told.
    raw: the row as one line of JSONL, without its end; as it stands where the file is JSONL.
    """

    line: int
    text: str
    source: str | None
    raw: bytes


def read_rows(
    path: Path, source_fields: Sequence[str] = SOURCE_FIELDS, *, skip_bad_rows: bool = False
) -> Iterator[PlainRow]:
    """The rows in order; empty lines are passed over.

    Raises InvalidRequest when the file cannot be read, and at a row that cannot, unless such are skipped.
    """
    for row in FileRows(path, Limits()):
        if isinstance(row, SourceRow):
            is_line = row.raw is not None and b"\n" not in row.raw
            raw = row.raw if is_line and row.raw else orjson.dumps(row.values)
            yield PlainRow(row.line, "\n".join(_said(row.values)), _source(row.values, source_fields), raw)
        elif isinstance(row, Finding) and row.is_error and not skip_bad_rows:
            place = f", line {row.line}" if row.line and row.rule not in UNREADABLE else ""
            details = {"file": str(path), "line": row.line}
            raise InvalidRequest(f"{path}{place}: {row.message} {row.hint}", code=row.rule, details=details)


def _said(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _said(item)
    elif isinstance(value, dict) and "system" not in (value.get("role"), value.get("from")):
        for name, item in value.items():
            if name not in _NOT_SAID:
                yield from _said(item)


def _source(row: dict[str, Any], fields: Sequence[str]) -> str | None:
    metadata = row.get("metadata")
    for field in fields:
        for place in (row, metadata if isinstance(metadata, dict) else {}):
            if isinstance(value := place.get(field), str | int) and value != "":
                return str(value)
    return None
