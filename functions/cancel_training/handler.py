"""cancel-training: the wish is on the row, the provider is told, and the job ends as the provider says.

A second call finds the wish there. A job that completes before it can be stopped stays completed.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from functions.context import Context
from functions.messages import Request, Response
from shared.errors import Conflict, Forbidden


class CancelTraining(Request):
    job_id: UUID


class CancelRequested(Response):
    job_id: UUID
    status: str
    cancel_requested_at: datetime


async def handle(request: CancelTraining, context: Context) -> CancelRequested:
    """Cancellation is under way, or done when nothing had started."""
    job = await context.visible("training_jobs", request.job_id, what="job", least="editor")
    if (
        job["user_id"] != str(context.user_id)
        and await context.require_role(job["project_id"], "editor") != "owner"
    ):
        raise Forbidden("Only who started a job, or the owner of the project, may cancel it.")
    outcome, row = await context.services.jobs.store.request_cancel(request.job_id)
    if outcome == "already_ended":
        raise Conflict(
            f"The job has already ended: {row['status']}.",
            code="job_already_ended",
            details={"status": row["status"]},
        )
    moved = await context.services.jobs.advance(request.job_id)
    return CancelRequested(
        job_id=moved.id,
        status=moved.status,
        cancel_requested_at=datetime.fromisoformat(row["cancel_requested_at"]),
    )
