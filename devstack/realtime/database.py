"""What the server asks of Postgres beside the change stream."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from pydantic import BaseModel

from devstack.realtime.pgoutput import Change, Row
from devstack.realtime.replication import CONNECT_TIMEOUT_SECONDS, SESSION_OPTIONS

STATEMENT_TIMEOUT_MS = 5000
VISIBLE_POLL_SECONDS = 0.001
# The stream names a transaction by 32 bits; the upper half of its number is that of the newest one.
_IS_VISIBLE = """
select pg_visible_in_snapshot(
  (((pg_snapshot_xmax(now)::text::bigint >> 32) << 32) | %s)::text::xid8, now)
from pg_current_snapshot() as now"""
ANSWER_TIMEOUT_SECONDS = 8.0  # for a Postgres that is too stuck to keep its own timeout
HELPERS = Path(__file__).with_name("describe_change.sql").read_text()
# Policies may call functions that name tables as PostgREST's requests do.
SEARCH_PATH = "set search_path to public, extensions"
Parameters = Sequence[Any] | Mapping[str, Any]
log = logging.getLogger(__name__)


class Column(BaseModel):
    """A column as clients are told of it; `type` is the name in pg_type (`int4`, `_text`)."""

    name: str
    type: str


class Description(BaseModel):
    """A change as Postgres sees it. Rows map columns to JSON text; `visible` is per asked subscriber.

    In `visible`, None: the table has no primary key (`key` is None) or the role may not read it.
    """

    guarded: bool
    key: frozenset[str] | None
    columns: dict[str, list[Column]]
    visible: list[bool | None]
    new: dict[str, str] | None
    old: dict[str, str] | None


class Database:
    """One connection, opened at the first question and again when Postgres comes back."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._connection: psycopg.AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self._warned: set[str] = set()

    async def rows(self, query: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement, which is sent again when the connection turns out to be lost.

        Raises psycopg.Error, also when the statement takes longer than its timeout.
        """
        async with self._turn:
            try:
                return await self._ask(query, parameters)
            except psycopg.OperationalError:
                if self._connection is not None and not self._connection.closed:
                    raise
                return await self._ask(query, parameters)

    async def wait_visible(self, transaction_id: int) -> None:
        """Rows of this committed transaction are seen by the next statement.

        A commit is streamed when it is in the log, which is a moment before other sessions see it: a policy
        asked in between would answer that a new row is not there. Raises psycopg.Error.
        """
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            while True:
                ((is_visible,),) = await self.rows(_IS_VISIBLE, [transaction_id])
                if is_visible:
                    return
                await asyncio.sleep(VISIBLE_POLL_SECONDS)

    async def describe(self, change: Change, subscribers: Sequence[tuple[str, str]]) -> Description:
        """The change in JSON, and whether each (role, claims) may see it. Raises psycopg.Error."""
        parameters = [
            change.relation.oid,
            _json(change.new),
            _json(change.old),
            [role for role, _ in subscribers],
            [claims for _, claims in subscribers],
        ]
        ((answer,),) = await self.rows(
            "select pg_temp.describe_change(%s::oid, %s, %s, %s::text[], %s::text[])::text", parameters
        )
        return Description.model_validate_json(answer)

    async def close(self) -> None:
        """Nothing is open afterwards; a later question opens a new connection."""
        if self._connection is not None:
            await self._connection.close()

    async def _ask(self, query: str, parameters: Parameters) -> list[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                cursor = await self._connection.execute(query, parameters)
                return await cursor.fetchall()
        except TimeoutError:
            await self._connection.close()
            raise psycopg.OperationalError("Postgres does not answer") from None

    async def _connect(self) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(
            self._database_url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            options=f"{SESSION_OPTIONS} -c statement_timeout={STATEMENT_TIMEOUT_MS}",
            application_name="fineflow realtime",
        )
        connection.add_notice_handler(self._warn_once)
        await connection.execute(SEARCH_PATH)
        await connection.execute(HELPERS)
        return connection

    def _warn_once(self, notice: psycopg.errors.Diagnostic) -> None:
        text = notice.message_primary or ""
        if notice.severity_nonlocalized == "WARNING" and text not in self._warned:
            self._warned.add(text)
            log.warning("%s", text)


def _json(row: Row | None) -> str | None:
    return None if row is None else json.dumps(row)
