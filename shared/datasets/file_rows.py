"""The rows of a file whatever holds them: JSON, CSV or Parquet, told from its content, not from its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from shared.datasets.csv_rows import CsvRows, Table, table_in
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.json_source import JsonRows, layout_of
from shared.datasets.limits import Limits
from shared.datasets.parquet_rows import ParquetRows
from shared.datasets.sources import ChatRun, SourceRow

Holder = Literal["JSON", "CSV", "Parquet"]
_SUFFIXES: dict[str, Holder] = {  # what a name promises
    ".jsonl": "JSON",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
}
_PEEKED_BYTES = 2**16
_BOM = b"\xef\xbb\xbf"
_PARQUET = b"PAR1"
_REFUSED = (  # how a file begins, what that is, what to do
    (b"\x1f\x8b", "compressed", "gzip", "Unpack it first: gunzip."),
    (b"PK\x03\x04", "compressed", "zip", "Unpack it first: unzip. Save a workbook as CSV."),
    (b"BZh", "compressed", "bzip2", "Unpack it first: bunzip2."),
    (b"\xfd7zXZ", "compressed", "xz", "Unpack it first: unxz."),
    (b"\x28\xb5\x2f\xfd", "compressed", "zstandard", "Unpack it first: unzstd."),
    (b"ARROW1", "not_text", "Arrow", "Write it as Parquet or JSONL."),
    (b"Obj\x01", "not_text", "Avro", "Write it as Parquet or JSONL."),
    (b"SQLite format 3", "not_text", "an SQLite database", "Write its table as CSV."),
    (b"\xff\xfe", "not_utf8", "UTF-16", "Save it as UTF-8."),
    (b"\xfe\xff", "not_utf8", "UTF-16", "Save it as UTF-8."),
)
# Rules by which nothing of a file can be read.
UNREADABLE = {
    "unreadable", "compressed", "not_text", "not_utf8", "broken_parquet", "file_too_large",
    "row_group_too_large",
}  # fmt: skip


class FileRows:
    """Iterates once over a file's rows, with what is wrong on the way; no file makes it raise.

    evidence: what holds the rows and how that was told; empty for JSON.
    """

    def __init__(self, path: Path, limits: Limits, renamed: Mapping[str, str] | None = None) -> None:
        self.evidence = ""
        self._path = path
        self._limits = limits
        self._renamed = renamed or {}
        self._findings = FindingsOf(path.name)
        self._rows: JsonRows | CsvRows | ParquetRows | None = None
        self._stream: BinaryIO | None = None
        self._is_blank = False

    @property
    def row_count(self) -> int:
        """So far, those with findings included."""
        return self._rows.row_count if self._rows else 0

    @property
    def byte_count(self) -> int:
        """How much of the file is read so far, about."""
        return 0 if self._stream is None or self._stream.closed else self._stream.tell()

    def start_runs(self) -> None:
        """From now on plain chats on lines of JSON are given together, as ChatRun."""
        if isinstance(self._rows, JsonRows):
            self._rows.in_runs = True

    def __iter__(self) -> Iterator[SourceRow | ChatRun | Finding]:
        try:
            with self._path.open("rb") as self._stream:
                if refusal := self._refusal(self._stream):
                    yield refusal
                    return
                yield from self._opened(self._stream)
                assert self._rows is not None
                yield from self._rows
        except OSError as error:
            reason = error.strerror or type(error).__name__
            yield self._findings.error(
                "unreadable", f"It cannot be read: {reason}.", "Check its name and its rights."
            )

    def _refusal(self, stream: BinaryIO) -> Finding | None:
        size = stream.seek(0, 2)
        if size > self._limits.file_bytes:
            message = f"{size:,} bytes; a file may have {self._limits.file_bytes:,}."
            return self._findings.error("file_too_large", message, "Split it.")
        stream.seek(0)
        start = stream.read(16)
        stream.seek(0)
        for magic, rule, name, hint in _REFUSED:
            if start.startswith(magic):
                return self._findings.error(rule, f"It is {name}, not text.", hint, 1, 1)
        return None

    def _opened(self, stream: BinaryIO) -> Iterator[Finding]:
        """What is to be said before the first row; `_rows` is then what reads them."""
        head = stream.read(_PEEKED_BYTES)
        stream.seek(0)
        if head.startswith(_PARQUET):
            self._rows = ParquetRows(self._path, self._limits, self._findings, self._renamed)
            yield from self._told("Parquet", "Parquet", "begins with PAR1")
            return
        if head.startswith(_BOM):
            message = "A byte order mark stands before the first row; it was taken off."
            hint = "Save the file as UTF-8 without BOM; other readers may refuse it."
            yield self._findings.warning("bom", message, hint, 1, 1)
            stream.seek(len(_BOM))
            head = head[len(_BOM) :]
        self._is_blank = not head.strip()
        if (table := self._table(head)) is not None:
            self._rows = CsvRows(stream, table, self._limits, self._findings, self._renamed)
            parted = f"parted by {table.parted_by}"
            yield from self._told("CSV", f"CSV {parted}", f"has {len(table.columns)} columns {parted}")
        else:
            layout = layout_of(head, self._path.suffix)
            self._rows = JsonRows(stream, layout, self._limits, self._findings)
            yield from self._told("JSON", "", f"begins with {head.lstrip()[:1].decode(errors='replace')}")

    def _table(self, head: bytes) -> Table | None:
        """The table that a file that begins so holds; None when it is JSON."""
        if self._is_blank or head.lstrip()[:1] in (b"{", b"["):
            return None
        table = table_in(head, self._renamed)
        is_named_so = _SUFFIXES.get(self._path.suffix.casefold()) == "CSV"
        return table if is_named_so or (table.is_known and table.is_even) else None

    def _told(self, holder: Holder, evidence: str, sign: str) -> Iterator[Finding]:
        self.evidence = evidence
        promised = _SUFFIXES.get(self._path.suffix.casefold(), holder)
        if holder != promised and not self._is_blank:
            message = f"By its name it is {promised}, but it is {holder}: it {sign}."
            yield self._findings.warning("other_suffix", message, "Give it a name that says what it is.")
