"""job-events: a job's life as server-sent events, for clients without Realtime.

The row is the truth. The stream looks at it as the caller, about twice a second, and tells what is new:
the id of an event says all that its reader has seen, `<version of the row>.<phase>`, so that a reader who
comes back with Last-Event-ID misses no change of state and hears nothing twice.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import orjson
from pydantic import Field

from functions.context import Context
from functions.messages import Request, Response
from shared.db import APIError, Row
from shared.errors import RateLimited, ServiceUnavailable
from shared.webhooks.model import END_OF, EventType, event_data

LOOK_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0  # proxies end what is silent
STREAM_SECONDS = 50.0  # functions may not run for ever; the reader comes back
MOST_STREAMS = 8  # of one user, in one process
_RETRY_MS = 2000
_WAITING, _STARTED, _ENDED = 0, 1, 2
_open_streams: Counter[UUID] = Counter()


class JobEvents(Request):
    job_id: UUID
    last_event_id: str | None = Field(
        default=None, max_length=40, description="The id of the last event seen, or the header Last-Event-ID."
    )


class JobEvent(Response):
    """The data of an event, the same as that of a webhook."""

    job_id: UUID
    project_id: UUID
    dataset_id: UUID
    status: str
    version: int
    progress_percent: float
    current_step: str
    provider: str
    base_model: str
    model_name: str
    model_id: UUID | None
    cost_usd: float | None
    error: dict[str, str] | None


@dataclass
class Seen:
    """What the reader knows."""

    version: int = 0
    phase: int = _WAITING

    @classmethod
    def from_id(cls, event_id: str | None) -> Seen:
        """What an event's id says; nothing for an id that is not ours."""
        match = re.fullmatch(r"([0-9]{1,18})\.([012])", event_id or "")
        return cls(int(match[1]), int(match[2])) if match else cls()

    def news(self, job: Row) -> Iterator[str]:
        """The events that tell of the row what is not known yet."""
        end = END_OF.get(job["status"])
        if self.phase == _WAITING and job["started_at"] is not None:
            self.phase = _STARTED
            yield self._event("finetune_job_started", job)
        elif not end and self.phase == _STARTED and job["version"] > self.version:
            yield self._event("finetune_job_progress", job)
        if end and self.phase != _ENDED:
            self.phase = _ENDED
            yield self._event(end, job)

    def _event(self, event_type: EventType, job: Row) -> str:
        self.version = job["version"]
        data = orjson.dumps(event_data(job)).decode()
        return f"id: {self.version}.{self.phase}\nevent: {event_type}\ndata: {data}\n\n"


async def handle(request: JobEvents, context: Context) -> AsyncIterator[str] | None:
    """A stream until the job ends, for 50 s at most; nothing for a reader who has seen the end."""
    job = await context.visible("training_jobs", request.job_id, what="job")
    seen = Seen.from_id(request.last_event_id)
    if seen.phase == _ENDED and job["status"] in END_OF:
        return None
    if _open_streams[context.user_id] >= MOST_STREAMS:
        raise RateLimited(
            f"{MOST_STREAMS} streams are open already. Close one.",
            code="too_many_streams",
            retry_after_seconds=int(STREAM_SECONDS),
        )

    async def look() -> Row | None:
        try:
            return await context.user_db.find("training_jobs", id=request.job_id)
        except (APIError, ServiceUnavailable):  # the token has ended, or the database is away
            return None

    return _counted(context.user_id, stream(look, seen))


async def _counted(user_id: UUID, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    with _one_stream(user_id):
        async for line in lines:
            yield line


@contextmanager
def _one_stream(user_id: UUID) -> Iterator[None]:
    _open_streams[user_id] += 1
    try:
        yield
    finally:
        _open_streams[user_id] -= 1
        if not _open_streams[user_id]:
            del _open_streams[user_id]


async def stream(
    look: Callable[[], Awaitable[Row | None]],
    seen: Seen,
    *,
    look_seconds: float = LOOK_SECONDS,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    stream_seconds: float = STREAM_SECONDS,
) -> AsyncIterator[str]:
    """Server-sent events about the row that `look` finds. Ends with the job, when there is no row to be
    seen any more, and after `stream_seconds`.
    """
    started = spoke = time.monotonic()
    yield f"retry: {_RETRY_MS}\n\n"
    while (job := await look()) is not None:
        for event in seen.news(job):
            spoke = time.monotonic()
            yield event
        now = time.monotonic()
        if seen.phase == _ENDED or now - started >= stream_seconds:
            return
        if now - spoke >= heartbeat_seconds:
            spoke = now
            yield ": still here\n\n"
        await asyncio.sleep(look_seconds)
