"""From one change to the sockets of those who may see it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol

import psycopg

from devstack.realtime.database import Column, Database, Description
from devstack.realtime.filters import matching
from devstack.realtime.pgoutput import Change, Row
from devstack.realtime.protocol import to_json
from devstack.realtime.replication import Replication
from devstack.realtime.subscriptions import Listener, Subscription

MAX_CHANGE_BYTES = 1024 * 1024
KEPT_VALUE_BYTES = 64  # a change over the limit keeps only values that are this short
RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS = 0.1, 0.5
EXPIRY_CHECK_SECONDS = 0.5
log = logging.getLogger(__name__)


class Session(Listener, Protocol):
    """A connected socket."""

    async def resubscribe(self) -> None: ...

    def close_expired(self, now: float) -> None: ...


class Hub:
    """The change stream, all sockets, and what each of them waits for."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(database_url)
        self.sessions: set[Session] = set()
        self._database_url = database_url
        self._live = asyncio.Event()
        self._subscriptions: defaultdict[tuple[str, str], set[Subscription]] = defaultdict(set)
        self._withheld: set[tuple[int, str]] = set()
        self._visible_transaction = 0

    @property
    def is_live(self) -> bool:
        """Whether a change committed now would be seen."""
        return self._live.is_set()

    async def wait_live(self, timeout_seconds: float) -> bool:
        """True as soon as the change stream is live, False when it still is not after the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._live.wait()
        except TimeoutError:
            return False
        return True

    def replace(self, old: Iterable[Subscription], new: Iterable[Subscription]) -> None:
        """The new subscriptions hold instead of the old ones, with no change between them."""
        for one in old:
            self._subscriptions[one.target.schema, one.target.table].discard(one)
        for one in new:
            self._subscriptions[one.target.schema, one.target.table].add(one)

    async def run(self) -> None:
        """Follows the change stream for ever, and opens it again whenever it is lost."""
        delay_seconds, said = RETRY_FIRST_SECONDS, ""
        while True:
            try:
                await self._follow()
            except (psycopg.Error, OSError) as error:
                reason = str(error).strip().partition("\n")[0]
                if self.is_live or reason != said:
                    log.warning("no change stream, trying again: %s", reason)
                said = reason
            if self.is_live:
                delay_seconds = RETRY_FIRST_SECONDS
                self._live.clear()
            await asyncio.sleep(delay_seconds)
            delay_seconds = min(delay_seconds * 2, RETRY_MAX_SECONDS)

    async def close_expired(self) -> None:
        """Closes each channel soon after its token has expired, for ever."""
        while True:
            await asyncio.sleep(EXPIRY_CHECK_SECONDS)
            for session in list(self.sessions):
                session.close_expired(time.time())

    async def _follow(self) -> None:
        async with Replication(self._database_url) as changes:
            self._live.set()
            log.info("change stream is live")
            for session in list(self.sessions):
                await session.resubscribe()
            async for change in changes:
                try:
                    await self._dispatch(change)
                except (psycopg.Error, TimeoutError) as error:
                    table = f"{change.relation.schema}.{change.relation.table}"
                    log.warning("a change of %s is dropped: %s", table, str(error).partition("\n")[0])

    async def _dispatch(self, change: Change) -> None:
        receivers = await self._receivers(change)
        if not receivers:
            return
        await self._wait_visible(change)
        asked = list({(one.identity.role, one.identity.claims) for one in receivers})
        description = await self.database.describe(change, asked)
        sees = dict(zip(asked, description.visible, strict=True))
        addressed: defaultdict[tuple[Listener, str, str, frozenset[str]], list[int]] = defaultdict(list)
        for one in receivers:
            if sees[one.identity.role, one.identity.claims]:
                addressed[one.listener, one.topic, one.identity.role, one.select].append(one.id)
        encoded: dict[tuple[str, frozenset[str]], str] = {}
        for (listener, topic, role, select), ids in addressed.items():
            if (role, select) not in encoded:
                encoded[role, select] = encode_change(change, description, role, select)
            listener.push(topic, "postgres_changes", f'{{"ids":{ids},"data":{encoded[role, select]}}}')
        self._explain_withheld(change, (role for (role, _), seen in sees.items() if seen is None))

    async def _wait_visible(self, change: Change) -> None:
        if change.transaction_id != self._visible_transaction:
            await self.database.wait_visible(change.transaction_id)
            self._visible_transaction = change.transaction_id

    async def _receivers(self, change: Change) -> list[Subscription]:
        """The subscriptions whose event and filters match; RLS is not asked yet."""
        table = (change.relation.schema, change.relation.table)
        now = time.time()
        wanting = [one for one in self._subscriptions.get(table, ()) if one.wants(change.kind, now)]
        row = change.old if change.kind == "DELETE" else change.new
        filters = {each for one in wanting for each in one.target.filters}
        held = await matching(filters, row or {}, self.database)
        return [one for one in wanting if held.issuperset(one.target.filters)]

    def _explain_withheld(self, change: Change, roles: Iterable[str]) -> None:
        for role in roles:
            if (change.relation.oid, role) not in self._withheld:
                self._withheld.add((change.relation.oid, role))
                log.warning(
                    "changes of %s.%s are withheld: no primary key that %s may read",
                    change.relation.schema,
                    change.relation.table,
                    role,
                )


def encode_change(change: Change, description: Description, role: str, select: frozenset[str]) -> str:
    """The `data` of a postgres_changes event as JSON, with the columns that the role may read.

    `select`, when not empty, narrows them; the primary key always stays. With RLS on, a DELETE tells the
    primary key only: the row is gone, so no policy can be asked.
    """
    key = description.key or frozenset()
    columns = [
        column
        for column in description.columns[role]
        if not select or column.name in select or column.name in key
    ]
    is_big = change.size_bytes > MAX_CHANGE_BYTES
    fields = [
        ("schema", to_json(change.relation.schema)),
        ("table", to_json(change.relation.table)),
        ("commit_timestamp", to_json(change.committed_at)),
        ("type", to_json(change.kind)),
        ("columns", to_json([column.model_dump() for column in columns])),
        ("errors", '["Error 413: Payload Too Large"]' if is_big else "null"),
    ]
    if description.new is not None:
        fields.append(("record", _record(description.new, change.new, columns, is_big)))
    if description.old is not None:
        if change.kind == "DELETE" and description.guarded:
            columns = [column for column in columns if column.name in key]
        fields.append(("old_record", _record(description.old, change.old, columns, is_big)))
    return _object(fields)


def _record(values: dict[str, str], raw: Row | None, columns: list[Column], is_big: bool) -> str:
    names = [column.name for column in columns if column.name in values]
    if is_big:
        names = [name for name in names if len((raw or {}).get(name) or "") <= KEPT_VALUE_BYTES]
    return _object((name, values[name]) for name in names)


def _object(fields: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{to_json(name)}:{value}" for name, value in fields) + "}"
