"""Filters: how they are read, and what they let through, as Postgres and as the plain path answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from devstack.realtime.database import Database
from devstack.realtime.filters import ColumnType, FilterRefused, matching, resolve, split

COLUMNS = {
    "id": ColumnType("uuid", "uuid"),
    "step": ColumnType("int4", "integer"),
    "status": ColumnType("job_status", "public.job_status"),
    "loss": ColumnType("numeric", "numeric"),
    "active": ColumnType("bool", "boolean"),
    "log": ColumnType("text", "text"),
    "config": ColumnType("jsonb", "jsonb"),
    "updated_at": ColumnType("timestamptz", "timestamp with time zone"),
}
ROW = {
    "id": "aaaaaaaa-0000-4000-8000-000000000001",
    "step": "50",
    "status": "running",
    "loss": "0.125",
    "active": "t",
    "log": None,
    "config": "{}",
    "updated_at": "2026-11-20 10:00:00+00",
}


@pytest.fixture
async def database(postgres: Any) -> AsyncIterator[Database]:
    one = Database(postgres.url)
    yield one
    await one.close()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a=eq.1", ["a=eq.1"]),
        ("a=eq.1,b=gt.2", ["a=eq.1", "b=gt.2"]),
        ("a=in.(1,2),b=eq.3", ["a=in.(1,2)", "b=eq.3"]),
        ('a=in.("x,y","(z"),b=eq.3', ['a=in.("x,y","(z")', "b=eq.3"]),
        ('a=eq."x,y",b=eq.3', ['a=eq."x,y"', "b=eq.3"]),
        (r'a=eq."x\",y",b=eq.3', [r'a=eq."x\",y"', "b=eq.3"]),
        ('a=eq.5",b=eq.3', ['a=eq.5"', "b=eq.3"]),
    ],
)
def test_split(text: str, parts: list[str]) -> None:
    assert split(text) == parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step=eq.50", True),
        ("step=eq.050", True),
        ("step=neq.50", False),
        ("step=not.eq.50", False),
        ("step=not.neq.50", True),
        ("step=lt.50", False),
        ("step=lte.50", True),
        ("step=gt.9", True),
        ("step=gte.51", False),
        ("step=in.(49,50)", True),
        ("step=not.in.(49,50)", False),
        ("step=in.()", False),
        ("step=in.(50,null)", True),
        ("step=not.in.(49,null)", False),
        ("status=eq.running", True),
        ("status=gt.queued", True),
        ("status=in.(queued,done)", False),
        ("loss=eq.0.1250", True),
        ("loss=in.(0.125,9)", True),
        ("active=eq.true", True),
        ("active=is.true", True),
        ("active=not.is.true", False),
        ("active=is.unknown", False),
        ("log=is.null", True),
        ("log=not.is.null", False),
        ("log=eq.x", False),
        ("log=neq.x", False),
        ("log=not.eq.x", False),
        ("log=isdistinct.x", True),
        ("log=not.isdistinct.x", False),
        ("updated_at=gte.2020-01-01", True),
        ("config=eq.{ }", True),
        ("id=eq.AAAAAAAA-0000-4000-8000-000000000001", True),
    ],
)
async def test_holds(database: Database, text: str, expected: bool) -> None:
    one = await resolve(text, COLUMNS, database)
    assert await matching([one], ROW, database) == ({one} if expected else set())


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("log=like.%b%", "abc", True),
        ("log=like.%B%", "abc", False),
        ("log=ilike.%B%", "abc", True),
        ("log=not.like.b%", "abc", True),
        ("log=match.^a.c$", "abc", True),
        ("log=imatch.^A", "abc", True),
        ('log=eq."a,b"', "a,b", True),
        (r'log=eq."say \"hi\""', 'say "hi"', True),
        ('log=in.("a,b",c)', "a,b", True),
        ("log=eq.%s", "%s", True),
        ("log=eq.a'); drop table jobs; --", "a'); drop table jobs; --", True),
    ],
)
async def test_text_operators(database: Database, text: str, value: str, expected: bool) -> None:
    one = await resolve(text, COLUMNS, database)
    assert bool(await matching([one], ROW | {"log": value}, database)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "step",
        "step=eq",
        "step=bad.1",
        "nope=eq.1",
        "step=is.5",
        "step=in.1,2",
        f"step=in.({','.join(map(str, range(101)))})",
    ],
)
async def test_refused_by_us(database: Database, text: str) -> None:
    with pytest.raises(FilterRefused):
        await resolve(text, COLUMNS, database)


@pytest.mark.parametrize(
    "text", ["step=eq.x", "id=like.1%", "log=match.(", "status=eq.gone", "step=in.(1,x)"]
)
async def test_refused_by_postgres(database: Database, text: str) -> None:
    with pytest.raises(psycopg.Error):
        await resolve(text, COLUMNS, database)


async def test_a_filter_that_fails_later_spoils_no_other(database: Database) -> None:
    """A pattern that ends in a backslash fails only once a row has come so far."""
    bad = await resolve("log=like.abc\\", COLUMNS, database)
    good = await resolve("log=like.abc%", COLUMNS, database)
    assert await matching([bad, good], ROW | {"log": "abcd"}, database) == {good}


async def test_a_column_that_the_row_lacks_does_not_match(database: Database) -> None:
    one = await resolve("step=neq.1", COLUMNS, database)
    assert await matching([one], {"id": ROW["id"]}, database) == set()
