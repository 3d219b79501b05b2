"""The decoder against what Postgres really writes, and on messages cut to the byte."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from devstack.realtime.pgoutput import Change, Decoder

BEGIN = b"B" + struct.pack("!QqI", 1, 1_000_001_500_000, 7)  # 2000-01-01 plus 1,000,001.5 s
RELATION = (
    b"R" + struct.pack("!I", 9) + b"public\0t\0d" + struct.pack("!h", 2)
    + b"\1id\0" + struct.pack("!Ii", 23, -1)
    + b"\0body\0" + struct.pack("!Ii", 25, -1)
)  # fmt: skip


def row(*values: bytes | None) -> bytes:
    cells = (b"n" if value is None else b"t" + struct.pack("!I", len(value)) + value for value in values)
    return struct.pack("!h", len(values)) + b"".join(cells)


def feed(*messages: bytes) -> Change | None:
    decoder = Decoder()
    return [decoder.feed(message) for message in messages][-1]


def test_insert() -> None:
    change = feed(BEGIN, RELATION, b"I" + struct.pack("!I", 9) + b"N" + row(b"1", None))
    assert change
    assert (change.kind, change.new, change.old) == ("INSERT", {"id": "1", "body": None}, None)
    assert change.committed_at == "2000-01-12T13:46:41.500Z"
    assert (change.relation.schema, change.relation.table) == ("public", "t")
    assert change.relation.identity == {"id"}


def test_update_without_old_row_has_the_same_identity() -> None:
    change = feed(BEGIN, RELATION, b"U" + struct.pack("!I", 9) + b"N" + row(b"1", "é".encode()))
    assert change
    assert (change.kind, change.new, change.old) == ("UPDATE", {"id": "1", "body": "é"}, {"id": "1"})


def test_update_of_the_key_tells_the_old_one() -> None:
    message = b"U" + struct.pack("!I", 9) + b"K" + row(b"1", None) + b"N" + row(b"2", b"x")
    change = feed(BEGIN, RELATION, message)
    assert change
    assert (change.new, change.old) == ({"id": "2", "body": "x"}, {"id": "1"})


def test_delete() -> None:
    change = feed(BEGIN, RELATION, b"D" + struct.pack("!I", 9) + b"K" + row(b"1", None))
    assert change
    assert (change.kind, change.new, change.old) == ("DELETE", None, {"id": "1"})


@pytest.mark.parametrize("message", [BEGIN, RELATION, b"C" + bytes(25), b"T" + bytes(9), b"O", b"Y", b"M"])
def test_other_messages_hold_no_change(message: bytes) -> None:
    assert feed(message) is None


@pytest.mark.parametrize("identity", ["default", "full"])
async def test_against_postgres(db: Any, identity: str) -> None:
    """A value that is stored apart and not touched is left out, unless the old row tells it."""
    db.execute(
        "drop table if exists decoded; create table decoded (id int primary key, big text, other text)"
    )
    db.execute("alter table decoded alter big set storage external")
    db.execute(f"alter table decoded replica identity {identity}")
    db.execute("create publication decoded for table decoded")
    db.execute("select pg_create_logical_replication_slot('decoded', 'pgoutput')")
    try:
        db.execute("insert into decoded values (1, repeat('x', 9000), null)")
        db.execute("update decoded set other = 'a\tb'")
        db.execute("delete from decoded")
        messages = db.execute(
            "select data from pg_logical_slot_get_binary_changes('decoded', null, null,"
            " 'proto_version', '1', 'publication_names', 'decoded')"
        )
        decoder = Decoder()
        insert, update, delete = [change for (data,) in messages if (change := decoder.feed(data))]
    finally:
        db.execute("select pg_drop_replication_slot('decoded')")
        db.execute("drop publication decoded; drop table decoded")
    big = "x" * 9000
    assert insert.new == {"id": "1", "big": big, "other": None}
    if identity == "full":
        assert update.new == {"id": "1", "big": big, "other": "a\tb"}
        assert update.old == {"id": "1", "big": big, "other": None}
        assert delete.old == {"id": "1", "big": big, "other": "a\tb"}
    else:
        assert update.new == {"id": "1", "other": "a\tb"}
        assert update.old == delete.old == {"id": "1"}
    assert update.committed_at.endswith("Z")
