"""A JSONL file of rows as CSV that no spreadsheet runs, or as Parquet. Memory holds a batch of rows.

In a table all rows have the same columns, in the order in which they first occur; what a row does not have
is empty there. Tools, and columns that belong to no turn, are JSON text. Messages are lists of records in
Parquet and JSON text in CSV.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from shared.datasets.writing import NotHeld, Row

if TYPE_CHECKING:
    import pyarrow as pa

Container = Literal["jsonl", "csv", "parquet"]
CONTENT_TYPES: dict[Container, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
OWN_COLUMNS = "metadata"  # of a table: the columns that belong to no turn, together
# What a spreadsheet takes for a formula when a cell begins with it (owasp.org, CSV Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Text or messages, row by row. In a cell of CSV nobody could tell which.
_EITHER = ("prompt", "completion", "chosen", "rejected")
_BATCH_ROWS = 1_000


def require_room(row: Row, container: Container) -> None:
    """Raises NotHeld when rows of this container cannot be like this one."""
    if container == "csv" and any(isinstance(row.get(column), list) for column in _EITHER):
        raise NotHeld("a conversation where CSV has room for one text")


def write_table(source: Path, target: Path, container: Literal["csv", "parquet"]) -> None:
    """The rows of the JSONL file `source` are the rows of the table `target`."""
    (_write_csv if container == "csv" else _write_parquet)(source, target)


def _write_csv(source: Path, target: Path) -> None:
    columns = _columns(source)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in _rows(source):
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: Any) -> str:
    """The value as text. One that a spreadsheet would run gets an apostrophe before it, and so does one that
    looks as if it had got it here, so that whoever reads the file can take it off again."""
    text = value if isinstance(value, str) else "" if value is None else _json(value)
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def _write_parquet(source: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(source)
    mixed = _mixed(source)
    schema: pa.Schema | None = None
    for rows in _batches(source):
        found = _arrow(rows, columns, mixed).schema
        schema = found if schema is None else pa.unify_schemas([schema, found], promote_options="permissive")
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for rows in _batches(source):
            writer.write_table(_arrow(rows, columns, mixed, schema))


def _arrow(
    rows: Iterable[Row], columns: list[str], mixed: set[str], schema: pa.Schema | None = None
) -> pa.Table:
    import pyarrow as pa

    def cell(name: str, value: Any) -> Any:
        if name == "tools" and value is not None:
            return _json(value)
        if name in mixed and isinstance(value, str):
            return [{"role": "user" if name == "prompt" else "assistant", "content": value}]
        return _plain_calls(value)

    return pa.Table.from_pylist(
        [{name: cell(name, row.get(name)) for name in columns} for row in rows], schema
    )


def _plain_calls(value: Any) -> Any:
    """The same with calls and definitions of tools as JSON text: no two are of one type."""
    if isinstance(value, list):
        return [_plain_calls(item) for item in value]
    if isinstance(value, dict):
        return {
            name: _json(item) if name in ("tool_calls", "tools") else _plain_calls(item)
            for name, item in value.items()
        }
    return value


def _columns(source: Path) -> list[str]:
    return list(dict.fromkeys(name for row in _rows(source) for name in row))


def _mixed(source: Path) -> set[str]:
    """Columns that hold text in some rows and messages in others."""
    kinds: dict[str, set[type]] = {name: set() for name in _EITHER}
    for row in _rows(source):
        for name in _EITHER:
            kinds[name].add(type(row.get(name)))
    return {name for name, found in kinds.items() if found >= {str, list}}


def _batches(source: Path) -> Iterator[list[Row]]:
    rows = _rows(source)
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch


def _rows(source: Path) -> Iterator[Row]:
    with source.open("rb") as lines:
        for line in lines:
            yield orjson.loads(line)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
