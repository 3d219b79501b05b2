"""poll-training: looks at every job that is due, and asks again for work that nobody holds.

The schedule calls it with nothing; a user may name a job of theirs to have it looked at now.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from functions.auth import CallerKind
from functions.context import Context
from functions.messages import Request, Response
from shared.errors import FineFlowError, InvalidRequest
from shared.jobs.model import Job
from shared.log import logger

_JOBS_A_CALL = 200
_AT_ONCE = 16
_log = logger("poll-training")


class PollTraining(Request):
    job_id: UUID | None = None


class PolledJob(Response):
    job_id: UUID
    status: str


class Polled(Response):
    polled: int
    jobs: list[PolledJob]


async def handle(request: PollTraining, context: Context) -> Polled:
    """Each due job is one step further. A job that cannot be moved never stops the others."""
    if context.caller.kind == CallerKind.USER:
        return _answer([await _check_now(request, context)])
    if request.job_id is not None:
        return _answer([await context.services.jobs.advance(request.job_id)])
    await context.service_db.call("call_for_unfinished_work")
    due = await context.services.jobs.store.due(_JOBS_A_CALL)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(job_id: UUID) -> Job | None:
        async with gate:
            try:
                return await context.services.jobs.advance(job_id)
            except FineFlowError as error:
                _log.warning("job not moved", job_id=str(job_id), code=error.code, error=error.message)
            except Exception:  # a poison row: its lease keeps it away from the next calls for a while
                _log.exception("job not moved", job_id=str(job_id))
            return None

    moved = await asyncio.gather(*(one(job_id) for job_id in due))
    return _answer([job for job in moved if job is not None])


async def _check_now(request: PollTraining, context: Context) -> Job:
    if request.job_id is None:
        raise InvalidRequest("Name the job to look at with jobId.")
    await context.visible("training_jobs", request.job_id, what="job")
    return await context.services.jobs.advance(request.job_id)


def _answer(jobs: list[Job]) -> Polled:
    return Polled(polled=len(jobs), jobs=[PolledJob(job_id=job.id, status=job.status) for job in jobs])
