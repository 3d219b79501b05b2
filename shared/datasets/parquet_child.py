"""The process that reads a Parquet file: `python -m`, this module, its path, its limits as JSON.

A line out for each row and each finding, see parquet_rows.Answer. One that does not end with a point died.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.confined import confine
from shared.datasets.limits import Limits
from shared.datasets.parquet_rows import BROKEN, Answer

MEMORY_BYTES = 4 * 2**30  # of address space
CPU_SECONDS = 1800
_BATCH_ROWS, _BATCH_BYTES = 1024, 8 * 2**20
_THRIFT_BYTES = 64 * 2**20  # of the footer; its lists may be as long
_HINT = "Write or download the file again."


def main() -> None:
    path, limits = Path(sys.argv[1]), Limits(**json.loads(sys.argv[2]))
    confine(memory_bytes=MEMORY_BYTES, cpu_seconds=CPU_SECONDS)
    for mark, content in answers(path, limits):
        sys.stdout.buffer.write(mark + content + b"\n")
    sys.stdout.buffer.flush()


def answers(path: Path, limits: Limits) -> Iterator[Answer]:
    """Every row in turn, then the end."""
    try:
        file = _opened(path)
        refusal = _refusal(file.metadata, limits)
        if refusal:
            yield refusal
            return
        reader = _Reader(file, limits)
        yield from reader.rows()
    except MemoryError:
        yield Answer.about(
            b"!", BROKEN, "It takes more memory than is given to it.", "Write smaller row groups."
        )
        return
    except Exception as error:  # the library's own, of which there is no list
        reason = str(error).partition("\n")[0][:200].rstrip(".") or type(error).__name__
        yield Answer.about(b"!", BROKEN, f"It is no Parquet, or damaged: {reason}.", _HINT)
        return
    yield Answer(b".", b"")


def _opened(path: Path) -> pq.ParquetFile:
    limits = {"thrift_string_size_limit": _THRIFT_BYTES, "thrift_container_size_limit": _THRIFT_BYTES}
    names = _text_columns(pq.ParquetFile(path, **limits).schema)
    # A value that is written once and meant a million times is then in memory once.
    return pq.ParquetFile(path, read_dictionary=names, pre_buffer=False, buffer_size=2**20, **limits)


def _text_columns(schema: pq.ParquetSchema) -> list[str]:
    columns = (schema.column(number) for number in range(len(schema)))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _refusal(metadata: pq.FileMetaData, limits: Limits) -> Answer | None:
    """Why nothing of the file is read, from what it says of itself; None when it is."""
    if metadata.num_columns > limits.keys:
        message = f"{metadata.num_columns:,} columns; a row may have {limits.keys:,}."
        return Answer.about(b"!", "too_many_keys", message, "Leave out the columns that no training needs.")
    total = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(place) for place in range(group.num_columns)]
        size = max(group.total_byte_size, sum(column.total_uncompressed_size for column in columns))
        values = max((column.num_values for column in columns), default=0)
        if max(size, values) > limits.row_group_bytes:
            message = (
                f"Row group {number + 1} unpacks to {size:,} bytes; {limits.row_group_bytes:,} are allowed."
            )
            return Answer.about(b"!", "row_group_too_large", message, "Write smaller row groups.")
        total += size
    if total > limits.file_bytes:
        message = f"It unpacks to {total:,} bytes; a file may have {limits.file_bytes:,}."
        return Answer.about(b"!", "file_too_large", message, "Split it.")
    return None


class _Reader:
    """Reads batches small enough to be in memory as Python values."""

    def __init__(self, file: pq.ParquetFile, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._binary: set[str] = set()  # columns with bytes that are no text

    def rows(self) -> Iterator[Answer]:
        metadata = self._file.metadata
        sizes = (metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        row_bytes = max(sum(sizes) // max(metadata.num_rows, 1), 1)
        batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
        for batch in self._file.iter_batches(batch_size=batch_rows, use_threads=False):
            if _size(batch) <= _BATCH_BYTES:
                yield from self._batch(batch)
            else:
                for number in range(batch.num_rows):
                    yield from self._batch(batch.slice(number, 1))
        for name in sorted(self._binary):
            message = f"Column {name!r} holds bytes that are no text; they were left out."
            yield Answer.about(b"?", "binary_column", message, "Leave the column out, or write it as text.")

    def _batch(self, batch: pa.RecordBatch) -> Iterator[Answer]:
        if batch.num_rows == 1 and _size(batch) > 2 * self._limits.line_bytes:
            yield self._too_long()
            return
        try:
            rows = batch.to_pylist(maps_as_pydicts="strict")
        except (
            ValueError,
            KeyError,
            OverflowError,
        ) as error:  # text that is not UTF-8, a key that comes twice
            if batch.num_rows > 1:
                for number in range(batch.num_rows):
                    yield from self._batch(batch.slice(number, 1))
                return
            message = f"The row holds a value that cannot be read: {str(error)[:200]}."
            if isinstance(error, UnicodeDecodeError):
                yield Answer.about(b"-", "bad_utf8", message, "Write it as UTF-8.")
            else:
                yield Answer.about(b"-", "bad_value", message, "Write it as text.")
            return
        for row in rows:
            text = orjson.dumps({name: self._plain(value, name) for name, value in row.items()})
            yield Answer(b"+", text) if len(text) <= self._limits.line_bytes else self._too_long()

    def _too_long(self) -> Answer:
        message = f"The row has more than {self._limits.line_bytes:,} bytes."
        return Answer.about(b"-", "line_too_long", message, "Shorten the row or split it.")

    def _plain(self, value: Any, name: str) -> Any:
        """As JSON has it. Within records a null is no value, since a record there has all keys of all."""
        if value is None or isinstance(value, str | bool | int):
            return value
        if isinstance(value, dict):
            return {str(key): self._plain(held, name) for key, held in value.items() if held is not None}
        if isinstance(value, list):
            return [self._plain(held, name) for held in value]
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError:
                self._binary.add(name)
                return None
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        return str(value) if isinstance(value, Decimal | timedelta) else repr(value)


def _size(held: pa.RecordBatch | pa.Array) -> int:
    """About how many bytes it takes with every value written out."""
    if isinstance(held, pa.RecordBatch):
        return sum(_size(column) for column in held.columns)
    kind = held.type
    if isinstance(held, pa.DictionaryArray):
        lengths = pc.binary_length(held.dictionary)
        total: int = pc.sum(pc.take(lengths, held.indices)).as_py() or 0
        return total + 8 * len(held)
    if pa.types.is_struct(kind):
        return sum(_size(held.field(number)) for number in range(kind.num_fields)) + 8 * len(held)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _size(held.flatten()) + 8 * len(held)
    if pa.types.is_map(kind):
        return 2 * int(held.nbytes)
    return int(held.nbytes)


if __name__ == "__main__":
    main()
