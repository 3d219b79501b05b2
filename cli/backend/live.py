"""Follow one row: Realtime tells of changes, fetching makes sure that none is missed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli.backend.client import Client, Row
from cli.exits import CliError

if TYPE_CHECKING:
    from realtime import AsyncRealtimeChannel

REFETCH_SECONDS = 10.0  # while the channel is joined: Realtime promises no delivery
POLL_SECONDS = 1.0  # while it is not
LEAVE_SECONDS = 2.0


@dataclass(frozen=True)
class Update:
    """A newer state of the row. `latency_ms`: commit to callback, by one machine's clock; None: fetched."""

    row: Row
    latency_ms: float | None = None


def newer(known: Row, arrived: Row, *, fetched: bool = False) -> Row | None:
    """`arrived` over `known`, when it is newer; None when it is old news.

    `version` decides where the table has one. Elsewhere `updated_at` does, but two transactions can
    end in another order than they began, so a fetched row always wins there. Realtime leaves out
    large values that did not change, so what is missing is kept.
    """
    if "version" in arrived:
        is_newer = int(arrived["version"]) > int(known["version"])
    else:
        is_newer = fetched or _updated_at(arrived) > _updated_at(known)
    return {**known, **arrived} if is_newer else None


def _updated_at(row: Row) -> datetime:
    return datetime.fromisoformat(str(row["updated_at"]))


async def follow(
    client: Client,
    table: str,
    row_id: str,
    *,
    until: Callable[[Row], bool],
    on_update: Callable[[Update], None] = lambda update: None,
) -> Row:
    """The first state of the row for which `until` holds; `on_update` saw each newer state once, in order.

    Raises CliError when the row does not exist or is deleted meanwhile.
    """
    async with _subscription(client, table, row_id) as feed:
        row = await _fetch(client, table, row_id)
        on_update(Update(row))
        while not until(row):
            update = await feed.next_update() or Update(await _fetch(client, table, row_id))
            if (merged := newer(row, update.row, fetched=update.latency_ms is None)) is not None:
                row = merged
                on_update(Update(row, update.latency_ms))
    return row


async def _fetch(client: Client, table: str, row_id: str) -> Row:
    rows = await client.rows(client.supabase.table(table).select("*").eq("id", row_id).limit(1))
    if not rows:
        raise CliError(f"The row {row_id} of {table} is gone.", code="not_found")
    return rows[0]


@dataclass
class _Feed:
    """What a channel delivered and was not read yet; None in the queue asks for a fetch."""

    arrived: asyncio.Queue[Update | None] = field(default_factory=asyncio.Queue)
    is_joined: bool = False

    async def next_update(self) -> Update | None:
        """The next change; None when it is time to fetch."""
        patience = REFETCH_SECONDS if self.is_joined else POLL_SECONDS
        try:
            return await asyncio.wait_for(self.arrived.get(), patience)
        except TimeoutError:
            return None

    def on_change(self, payload: Any) -> None:
        received_at = time.time()
        change = payload["data"]
        record = change.get("record")
        committed_at = datetime.fromisoformat(change["commit_timestamp"]).timestamp()
        latency_ms = (received_at - committed_at) * 1000
        self.arrived.put_nowait(Update(record, latency_ms) if record else None)

    def on_system(self, _payload: Any) -> None:
        self.is_joined = True  # only now is the subscription known to work: a join says yes to anything
        self.arrived.put_nowait(None)

    def on_state(self, state: Any, _error: Exception | None) -> None:
        if state.value != "SUBSCRIBED":
            self.is_joined = False


@contextlib.asynccontextmanager
async def _subscription(client: Client, table: str, row_id: str) -> AsyncIterator[_Feed]:
    from realtime.types import RealtimePostgresChangesListenEvent as Event

    feed = _Feed()
    channel = client.supabase.channel(f"{table}-{row_id}")
    channel.on_postgres_changes(
        Event.All, feed.on_change, table=table, schema="public", filter=f"id=eq.{row_id}"
    )
    channel.on_system(feed.on_system)
    joining = asyncio.create_task(_join(channel, feed))
    try:
        yield feed
    finally:
        joining.cancel()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(client.supabase.remove_channel(channel), LEAVE_SECONDS)


async def _join(channel: AsyncRealtimeChannel, feed: _Feed) -> None:
    with contextlib.suppress(Exception):  # no channel, no harm: the row is fetched every POLL_SECONDS
        await channel.subscribe(feed.on_state)
