"""The messages of pgoutput, Postgres's logical replication plugin, as row changes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

ChangeKind = Literal["INSERT", "UPDATE", "DELETE"]
Row = dict[str, str | None]
KINDS: dict[bytes, ChangeKind] = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}


@dataclass(frozen=True)
class Relation:
    """A table as it was when the change was made. `identity`: the columns of its replica identity."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    identity: frozenset[str]
    identity_is_full: bool


@dataclass(frozen=True)
class Change:
    """One committed row change; values are Postgres text, None is NULL.

    `new` is None for DELETE, `old` (the replica identity) is None for INSERT. A large value that the
    change did not touch is absent from `new`, unless the replica identity is full.
    """

    kind: ChangeKind
    relation: Relation
    new: Row | None
    old: Row | None
    committed_at: str
    transaction_id: int
    size_bytes: int


class _Reader:
    """A cursor over one message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def number(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self.data, self.position)
        self.position += struct.calcsize(layout)
        return int(value)

    def take(self, length: int) -> bytes:
        self.position += length
        return self.data[self.position - length : self.position]

    def text(self) -> str:
        return self.take(self.data.index(0, self.position) - self.position + 1)[:-1].decode()

    def row(self, columns: tuple[str, ...]) -> Row:
        values: Row = {}
        for name in columns[: self.number("!h")]:
            match self.take(1):
                case b"n":
                    values[name] = None
                case b"t":
                    values[name] = self.take(self.number("!I")).decode()
        return values


class Decoder:
    """pgoutput, protocol 1: bytes in, changes out. Remembers tables and the transaction."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._committed_at = ""
        self._transaction_id = 0

    def feed(self, message: bytes) -> Change | None:
        """The change that the message holds; None when it holds none."""
        reader = _Reader(message)
        match kind := reader.take(1):
            case b"B":
                reader.take(8)
                self._committed_at = _timestamp(reader.number("!q"))
                self._transaction_id = reader.number("!I")
            case b"R":
                relation = _relation(reader)
                self._relations[relation.oid] = relation
            case b"I" | b"U" | b"D":
                return self._change(KINDS[kind], reader)
        return None

    def _change(self, kind: ChangeKind, reader: _Reader) -> Change:
        relation = self._relations[reader.number("!I")]
        rows: dict[bytes, Row] = {}
        while reader.position < len(reader.data):
            part = reader.take(1)
            rows[part] = reader.row(relation.columns)
        new, old = rows.get(b"N"), rows.get(b"O")
        if b"K" in rows:
            old = _identity(relation, rows[b"K"])
        if kind == "UPDATE" and new is not None:
            # Postgres leaves the old row out when its identity stayed the same.
            old = _identity(relation, new) if old is None else old
            new = {**old, **new} if relation.identity_is_full else new
        return Change(kind, relation, new, old, self._committed_at, self._transaction_id, len(reader.data))


def _identity(relation: Relation, row: Row) -> Row:
    return {name: value for name, value in row.items() if name in relation.identity}


def _relation(reader: _Reader) -> Relation:
    oid, schema, table = reader.number("!I"), reader.text(), reader.text()
    is_full = reader.take(1) == b"f"
    columns, identity = [], set()
    for _ in range(reader.number("!h")):
        is_key, name = reader.number("!B") & 1, reader.text()
        reader.take(8)  # type oid and modifier: the catalog is asked for types
        columns.append(name)
        if is_key:
            identity.add(name)
    return Relation(oid, schema, table, tuple(columns), frozenset(identity), is_full)


def _timestamp(microseconds: int) -> str:
    moment = POSTGRES_EPOCH + timedelta(microseconds=microseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
