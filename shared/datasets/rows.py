"""Rows of a JSONL file of any shape, as splitting and deduplication see them: what they say, and whence.

A row is read for its words alone, so that every format is split alike and its lines are copied untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shared.errors import InvalidRequest

# Not `source`: in published datasets it names a collection, which would make one group of most rows.
SOURCE_FIELDS = ("document_id", "doc_id", "document", "source_document")
# Said by many rows alike, or not said at all.
_NOT_SAID = {"system", "system_message", "role", "from", "id", "metadata", "tools", "weight", *SOURCE_FIELDS}


@dataclass(frozen=True)
class PlainRow:
    """One line of a file."""

    line: int  # from 1
    text: str  # everything that is said, without system messages
    source: str | None  # the document it rests on; None: not told
    raw: bytes  # the line as it stands, without its end


def read_rows(path: Path, source_fields: Sequence[str] = SOURCE_FIELDS) -> Iterator[PlainRow]:
    """The rows in order; empty lines are passed over. Raises InvalidRequest at a line that is no JSON object,
    and OSError when the file cannot be read.
    """
    with path.open("rb") as file:
        for line, content in enumerate(file, start=1):
            raw = content.removeprefix(b"\xef\xbb\xbf") if line == 1 else content
            raw = raw.rstrip(b"\r\n")
            if raw.strip():
                row = _object(raw, path, line)
                yield PlainRow(line, "\n".join(_said(row)), _source(row, source_fields), raw)


def _object(raw: bytes, path: Path, line: int) -> dict[str, Any]:
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"{path}, line {line}: no JSON ({error}).", details={"file": str(path), "line": line}
        ) from None
    if not isinstance(row, dict):
        raise InvalidRequest(
            f"{path}, line {line}: a row is a JSON object.", details={"file": str(path), "line": line}
        )
    return row


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
