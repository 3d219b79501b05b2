"""Who wants to hear of which changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import psycopg

from devstack.realtime.database import Database
from devstack.realtime.filters import ColumnType, Filter, FilterRefused, resolve, split
from devstack.realtime.protocol import ChangeRequest
from devstack.realtime.replication import PUBLICATION
from devstack.realtime.tokens import Identity

PUBLISHED_TABLES = """
select t.schemaname, t.tablename
from pg_publication_tables t
where t.pubname = %(publication)s
    and %(schema)s::text in ('*', t.schemaname) and %(table)s::text in ('*', t.tablename)
"""
READABLE_COLUMNS = """
select a.attname, t.typname, format_type(a.atttypid, null)
from pg_attribute a join pg_type t on t.oid = a.atttypid
where a.attrelid = format('%%I.%%I', %(schema)s::text, %(table)s::text)::regclass
    and a.attnum > 0 and not a.attisdropped
    and has_column_privilege(%(role)s::text, a.attrelid, a.attnum, 'select')
"""
EVENTS = {"INSERT", "UPDATE", "DELETE"}
UNABLE = "Unable to subscribe to changes with given parameters."


class SubscriptionRefused(ValueError):
    """The changes cannot be subscribed to; the text is Realtime's."""


class Listener(Protocol):
    """The socket behind a subscription."""

    def push(self, topic: str, event: str, payload_json: str) -> None: ...


@dataclass(frozen=True)
class Target:
    """One published table, and what must hold for its rows."""

    schema: str
    table: str
    filters: tuple[Filter, ...]


@dataclass(frozen=True, eq=False)
class Subscription:
    """`id` is the client's handle; `select` is empty when all readable columns are wanted."""

    listener: Listener
    topic: str
    id: int
    event: str
    target: Target
    select: frozenset[str]
    identity: Identity

    def wants(self, kind: str, now: float) -> bool:
        """Whether a change of this kind is asked for, and the token is still good at `now` (Unix seconds)."""
        return self.event in ("*", kind) and now < self.identity.expires_at


async def find_subscriptions(
    listener: Listener,
    topic: str,
    requests: list[tuple[int, ChangeRequest]],
    identity: Identity,
    database: Database,
) -> list[Subscription]:
    """One subscription for each published table that a request names. Raises SubscriptionRefused."""
    found = []
    for name, request in requests:
        event = request.event.upper()
        for target in await _targets(request, identity.role, database):
            found.append(
                Subscription(
                    listener,
                    topic,
                    name,
                    event if event in EVENTS else "*",
                    target,
                    frozenset(request.select or ()),
                    identity,
                )
            )
    return found


async def _targets(request: ChangeRequest, role: str, database: Database) -> list[Target]:
    wanted = {"schema": request.schema_name or "public", "table": request.table or "*"}
    try:
        tables = await database.rows(PUBLISHED_TABLES, {"publication": PUBLICATION, **wanted})
        if not tables:
            raise SubscriptionRefused(
                f"{UNABLE} Please check Realtime is enabled for the given connect parameters: {request}"
            )
        return [await _target(request, role, schema, table, database) for schema, table in tables]
    except (FilterRefused, psycopg.Error) as error:
        reason = str(error).partition("\n")[0]
        raise SubscriptionRefused(
            f"{UNABLE} An exception happened so please check your connect parameters: {request}."
            f" Exception: {reason}"
        ) from error


async def _target(request: ChangeRequest, role: str, schema: str, table: str, database: Database) -> Target:
    rows = await database.rows(READABLE_COLUMNS, {"schema": schema, "table": table, "role": role})
    columns = {name: ColumnType(type_name, type_sql) for name, type_name, type_sql in rows}
    filters = [await resolve(one, columns, database) for one in split((request.filter or "").strip())]
    unknown = sorted(set(request.select or ()) - set(columns))
    if unknown:
        raise FilterRefused(f"invalid column for select {unknown[0]}")
    return Target(schema, table, tuple(filters))
