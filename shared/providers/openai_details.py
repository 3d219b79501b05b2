"""What goes with the status of a fine-tuning job: its events, result files and checkpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from shared.errors import ProviderError, ProviderUnavailable
from shared.keys.store import OpenedKey
from shared.providers.base import ProviderEvent, StepMetrics
from shared.providers.openai_client import OpenAIClient
from shared.providers.openai_report import (
    checkpoint_events,
    events_of,
    metrics_of,
    metrics_of_file,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI, Omit
    from openai.pagination import AsyncCursorPage
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

Found = TypeVar("Found")

_PAGE = 100
_MOST_EVENTS = 5000
_MOST_CHECKPOINTS = 100
_WAIT_SECONDS = 600  # how long after its end a run waits for details that cannot be read


@dataclass(frozen=True)
class Details:
    """Everything since the cursor, the oldest first."""

    found: tuple[FineTuningJobEvent, ...] = ()  # as the vendor tells them
    events: tuple[ProviderEvent, ...] = ()
    metrics: tuple[StepMetrics, ...] = ()
    cursor: str | None = None


async def read_details(
    client: OpenAIClient, key: OpenedKey, job: FineTuningJob, cursor: str | None, *, has_ended: bool
) -> Details:
    """The details of a run that trains or has ended. Raises ProviderUnavailable as `poll` promises."""
    worth_waiting = has_ended and time.time() - (job.finished_at or 0) < _WAIT_SECONDS
    succeeded = job.status == "succeeded"
    if succeeded and not job.fine_tuned_model and worth_waiting:
        raise ProviderUnavailable("The provider has not named the model yet.", code="model_not_named")
    events, steps, checkpoints = await asyncio.gather(
        _or_none(_events(client, key, job.id, cursor), worth_waiting),
        _or_none(_result_steps(client, key, job), worth_waiting) if succeeded else _nothing(),
        _or_none(_checkpoints(client, key, job.id), worth_waiting) if succeeded else _nothing(),
    )
    found = tuple(events or ())
    # The file has every step, the events only some; where both have one, the file is the record.
    by_step = {step.step: step for step in (*metrics_of(found, job), *(steps or ()))}
    return Details(
        found=found,
        events=(
            *events_of(found, key.api_key),
            *checkpoint_events(checkpoints or (), key.api_key),
        ),
        metrics=tuple(by_step[step] for step in sorted(by_step)),
        cursor=found[-1].id if found else None,
    )


async def _or_none(reading: Awaitable[Found], worth_waiting: bool) -> Found | None:
    try:
        return await reading
    except ProviderUnavailable:
        if worth_waiting:
            raise
        return None
    except ProviderError:  # a definite no, which asking again does not change
        return None


async def _nothing() -> None:
    return None


async def _events(
    client: OpenAIClient, key: OpenedKey, ref: str, cursor: str | None
) -> list[FineTuningJobEvent]:
    from openai.types.fine_tuning import FineTuningJobEvent

    async def fetch(sdk: AsyncOpenAI, after: str | Omit) -> AsyncCursorPage[FineTuningJobEvent]:
        return await sdk.fine_tuning.jobs.list_events(ref, limit=_PAGE, after=after)

    newest_first = await client.collect(
        key, fetch, FineTuningJobEvent, most=_MOST_EVENTS, until=lambda event: event.id == cursor
    )
    return newest_first[::-1]


async def _result_steps(client: OpenAIClient, key: OpenedKey, job: FineTuningJob) -> tuple[StepMetrics, ...]:
    steps: tuple[StepMetrics, ...] = ()
    for file_id in job.result_files or ():
        content = await client.ask(key, partial(_content, file_id=file_id))
        steps += metrics_of_file(content, job)
    return steps


async def _content(sdk: AsyncOpenAI, file_id: str) -> bytes:
    return (await sdk.files.content(file_id)).read()


async def _checkpoints(client: OpenAIClient, key: OpenedKey, ref: str) -> list[FineTuningJobCheckpoint]:
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

    async def fetch(sdk: AsyncOpenAI, after: str | Omit) -> AsyncCursorPage[FineTuningJobCheckpoint]:
        return await sdk.fine_tuning.jobs.checkpoints.list(ref, limit=_PAGE, after=after)

    return await client.collect(key, fetch, FineTuningJobCheckpoint, most=_MOST_CHECKPOINTS)
