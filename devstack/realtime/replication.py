"""Row changes as they commit, read from a temporary logical replication slot.

psycopg has no replication interface of its own; its libpq wrapper (`psycopg.pq`) has all that is needed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import struct
import time
from types import TracebackType

import psycopg
from psycopg import pq

from devstack.realtime.pgoutput import Change, Decoder

PUBLICATION = "supabase_realtime"
# Values travel as text, so the walsender must write them as the connection that reads them back expects.
SESSION_OPTIONS = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1"
CONNECT_TIMEOUT_SECONDS = 5
SLOT_TIMEOUT_SECONDS = 10.0
# Short, because Postgres 16 can lose a walsender's wake-up: it then sits on a committed change until it
# hears from us (seen after ALTER TABLE, with sent_lsn behind the flushed WAL).
STATUS_SECONDS = 0.1
ANSWER_WANTED_SECONDS, SILENCE_SECONDS = 10.0, 45.0


class Replication:
    """`async with Replication(url) as changes: async for change in changes: ...`

    Entered, every later commit to a table of the publication will be seen, in commit order. Raises
    psycopg.Error when the publication is missing, no slot is free, or Postgres goes away. The slot ends
    with the connection, so changes made in between are not seen.
    """

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._decoder = Decoder()
        self._confirmed_lsn = 0
        self._status_at = self._heard_at = time.monotonic()

    async def __aenter__(self) -> Replication:
        self._connection = await psycopg.AsyncConnection.connect(
            self._database_url,
            autocommit=True,
            replication="database",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            options=SESSION_OPTIONS,
            application_name="fineflow realtime capture",
        )
        self._pgconn = self._connection.pgconn
        try:
            await self._start()
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    def __aiter__(self) -> Replication:
        return self

    async def __anext__(self) -> Change:
        while True:
            while (message := self._buffered()) is not None:
                if change := self._decoder.feed(message):
                    return change
            await self._wait_readable(STATUS_SECONDS)
            if time.monotonic() - self._heard_at > SILENCE_SECONDS:
                raise psycopg.OperationalError("the replication stream has gone silent")

    async def _start(self) -> None:
        # pgoutput fails only at the first change, and a slot made before the publication stays broken.
        found = await self._connection.execute(f"select from pg_publication where pubname = '{PUBLICATION}'")
        if not found.rowcount:
            raise psycopg.OperationalError(f"publication {PUBLICATION} does not exist yet")
        slot = f"fineflow_realtime_{os.getpid()}_{secrets.token_hex(4)}"
        try:
            async with asyncio.timeout(SLOT_TIMEOUT_SECONDS):
                await self._connection.execute(
                    f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"
                )
        except TimeoutError:
            raise psycopg.OperationalError("no slot: a transaction that has written is still open") from None
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await self._stream_from(slot)

    async def _stream_from(self, slot: str) -> None:
        options = f"proto_version '1', publication_names '{PUBLICATION}'"
        self._pgconn.nonblocking = 1
        self._pgconn.send_query(f"START_REPLICATION SLOT {slot} LOGICAL 0/0 ({options})".encode())
        self._pgconn.flush()
        while self._pgconn.is_busy():
            await self._wait_readable(STATUS_SECONDS)
        result = self._pgconn.get_result()
        if result is None or result.status != pq.ExecStatus.COPY_BOTH:
            reason = result.get_error_message() if result else "no answer"
            raise psycopg.OperationalError(f"replication did not start: {reason}")

    async def _wait_readable(self, timeout_seconds: float) -> None:
        # The reader is registered only while waiting: left in place, it would spin the loop during dispatch.
        loop, socket = asyncio.get_running_loop(), self._pgconn.socket
        readable = asyncio.Event()
        loop.add_reader(socket, readable.set)
        try:
            async with asyncio.timeout(timeout_seconds):
                await readable.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_reader(socket)
        self._heard_at = time.monotonic()
        self._pgconn.consume_input()

    def _buffered(self) -> bytes | None:
        """The next pgoutput message that has already arrived; None when there is none."""
        while True:
            self._send_status_when_due()
            length, data = self._pgconn.get_copy_data(1)
            if length < 0:
                raise psycopg.OperationalError("the replication stream ended")
            if length == 0:
                return None
            message = bytes(data)
            if message[:1] == b"w":  # start, end, time, then the payload
                self._confirmed_lsn = max(self._confirmed_lsn, struct.unpack_from("!Q", message, 9)[0])
                return message[25:]
            if message[:1] == b"k":  # end, time, and whether an answer is wanted soon: it always comes soon
                self._confirmed_lsn = max(self._confirmed_lsn, struct.unpack_from("!Q", message, 1)[0])

    def _send_status_when_due(self) -> None:
        now = time.monotonic()
        if now - self._status_at < STATUS_SECONDS:
            return
        lsn, wants_answer = self._confirmed_lsn, now - self._heard_at > ANSWER_WANTED_SECONDS
        self._pgconn.put_copy_data(b"r" + struct.pack("!QQQqb", lsn, lsn, lsn, 0, wants_answer))
        self._pgconn.flush()
        self._status_at = now
