"""A JSONL file of rows as a JSON list, as CSV that no spreadsheet runs, or as Parquet. Memory holds a batch.

In a table all rows have the same columns, in the order in which they first occur. What a row does not have
is null in Parquet, and nothing between two delimiters in CSV, where empty text has quotation marks: as
PostgreSQL has it. Messages are lists of records in Parquet and JSON text in CSV; definitions and calls of
tools are JSON text in both. Of columns beside those of a format Parquet keeps the ones that hold text, or
numbers, or true and false alone; CSV, those that hold text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from shared.datasets.cells import EITHER_COLUMNS, shape_of_columns, without_formula
from shared.datasets.writing import Row

if TYPE_CHECKING:
    import pyarrow as pa

Container = Literal["jsonl", "json", "csv", "parquet"]
CONTENT_TYPES: dict[Container, str] = {
    "jsonl": "application/jsonl",
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
OWN_COLUMNS = "metadata"  # of a table: the columns that belong to no turn, together
_TO_BE_QUOTED = re.compile(r'[,"\r\n]|^\s|\s$|^$')
_NATIVE = ({str}, {bool}, {int}, {float})  # that a column of Parquet may hold, each alone
_BATCH_ROWS = 1_000


def container_of(path: Path) -> Container | None:
    """What a file of this name holds; None when its name does not say."""
    by_suffix: dict[str, Container] = {f".{name}": name for name in CONTENT_TYPES}
    return by_suffix.get(path.suffix.casefold())


def write_container(source: Path, target: Path, container: Literal["json", "csv", "parquet"]) -> list[str]:
    """The rows of the JSONL file `source` are the rows of `target`.

    Returns columns that are read back otherwise than they were written: beside those of the format, with
    values of a kind that the container does not know.
    """
    if container == "json":
        _write_json(source, target)
        return []
    kinds = _kinds(source)
    shape = shape_of_columns(kinds.keys())
    own = shape.needs | shape.may_have if shape else frozenset()
    beside = {name: found for name, found in kinds.items() if name not in own}
    if container == "csv":
        _write_csv(source, target, list(kinds))
        return [name for name, found in beside.items() if found != {str}]
    as_text = {name for name, found in beside.items() if found - {type(None)} not in _NATIVE}
    _write_parquet(source, target, kinds, as_text | (own & {"tools"}))
    return [name for name, found in beside.items() if found not in _NATIVE]


def _write_json(source: Path, target: Path) -> None:
    with source.open("rb") as lines, target.open("wb") as file:
        for number, line in enumerate(lines):
            file.write((b",\n" if number else b"[\n") + line.rstrip(b"\n"))
        file.write(b"\n]\n")


def _write_csv(source: Path, target: Path, columns: list[str]) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(map(_field, columns)) + "\n")
        for row in _rows(source):
            file.write(",".join(_field(row.get(name)) for name in columns) + "\n")


def _field(value: Any) -> str:
    if value is None:
        return ""
    cell = without_formula(value if isinstance(value, str) else _json(value))
    return '"' + cell.replace('"', '""') + '"' if _TO_BE_QUOTED.search(cell) else cell


def _write_parquet(source: Path, target: Path, kinds: dict[str, set[type]], as_text: set[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema: pa.Schema | None = None
    for rows in _batches(source):
        found = _arrow(rows, kinds, as_text).schema
        schema = found if schema is None else pa.unify_schemas([schema, found], promote_options="permissive")
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for rows in _batches(source):
            writer.write_table(_arrow(rows, kinds, as_text, schema))


def _arrow(
    rows: Iterable[Row], kinds: dict[str, set[type]], as_text: set[str], schema: pa.Schema | None = None
) -> pa.Table:
    import pyarrow as pa

    def cell(name: str, value: Any) -> Any:
        if name in as_text and value is not None:
            return value if isinstance(value, str) else _json(value)
        if name in EITHER_COLUMNS and kinds[name] >= {str, list} and isinstance(value, str):
            return [{"role": "user" if name == "prompt" else "assistant", "content": value}]
        return _plain_calls(value)

    return pa.Table.from_pylist([{name: cell(name, row.get(name)) for name in kinds} for row in rows], schema)


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


def _kinds(source: Path) -> dict[str, set[type]]:
    """The columns in the order in which they first occur, and of which types their values are."""
    kinds: dict[str, set[type]] = {}
    for row in _rows(source):
        for name, value in row.items():
            # Beyond 63 bits it is a type of its own, which no table has.
            is_huge = type(value) is int and not -(2**63) <= value < 2**63
            kinds.setdefault(name, set()).add(object if is_huge else type(value))
    return kinds


def _batches(source: Path) -> Iterator[list[Row]]:
    rows = _rows(source)
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch


def _rows(source: Path) -> Iterator[Row]:
    with source.open("rb") as lines:
        for line in lines:
            yield orjson.loads(line)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
