"""poll-training: looks at every job that is due, asks again for work that nobody holds, and tidies up.

The schedule calls it with nothing; a user may name a job of theirs to have it looked at now.
"""

from __future__ import annotations

from uuid import UUID

from functions.auth import CallerKind
from functions.context import Context
from functions.messages import Request, Response
from shared.errors import InvalidRequest, ServiceUnavailable
from shared.jobs.model import Job
from shared.jobs.reconcile import Reconciler
from shared.log import logger
from shared.models.sweeping import sweep

_log = logger("poll-training")


class PollTraining(Request):
    job_id: UUID | None = None


class PolledJob(Response):
    job_id: UUID
    status: str


class Polled(Response):
    polled: int
    jobs: list[PolledJob]  # those of which something was new


async def handle(request: PollTraining, context: Context) -> Polled:
    """Each due job is one step further. A job that cannot be moved never stops the others."""
    if context.caller.kind == CallerKind.USER:
        return _answer(1, [await _check_now(request, context)])
    if request.job_id is not None:
        return _answer(1, [await context.services.jobs.advance(request.job_id)])
    await context.service_db.call("call_for_unfinished_work")
    await context.service_db.call("call_for_unfinished_imports")
    tick = await Reconciler(context.services.jobs).tick()
    await _tidy_up(context)
    return _answer(tick.looked_at, tick.moved)


async def _tidy_up(context: Context) -> None:
    try:
        if pieces := await sweep(context.service_db, context.storage):
            _log.info("models swept", pieces=pieces)
    except ServiceUnavailable as error:  # jobs were looked at, and what is left is found by the next sweep
        _log.warning("models not swept", code=error.code)


async def _check_now(request: PollTraining, context: Context) -> Job:
    if request.job_id is None:
        raise InvalidRequest("Name the job to look at with jobId.")
    await context.visible("training_jobs", request.job_id, what="job")
    return await context.services.jobs.advance(request.job_id)


def _answer(polled: int, jobs: list[Job]) -> Polled:
    return Polled(polled=polled, jobs=[PolledJob(job_id=job.id, status=job.status) for job in jobs])
