"""report-training: a running trainer says how it is doing.

Progress goes to the row, numbers to training_metrics, events to training_job_events, each once: a
report that was stored before is skipped by its number. The first report claims the attempt.
"""

from __future__ import annotations

from functions.context import Context
from shared.errors import Conflict, NotFound, Unauthorized
from shared.training.spec import ReportBatch, ReportReceipt

_NOT_TRAINING = frozenset({"uploading", "validating", "queued"})


async def handle(request: ReportBatch, context: Context) -> ReportReceipt:
    """The reports are stored, and the job core has looked at the job when they change its state."""
    trainer = context.caller.trainer
    if trainer is None or trainer.attempt != request.attempt:
        raise Unauthorized("This token is for another attempt.", code="invalid_token")
    answer = await context.services.jobs.store.report(
        trainer.job_id,
        attempt=request.attempt,
        run_id=request.run_id,
        reports=[report.model_dump(mode="json", exclude={"result"}) for report in request.reports],
    )
    if answer["outcome"] == "job_not_found":
        raise NotFound("The job of this token does not exist any more.", code="job_not_found")
    if answer["outcome"] == "claim_lost":
        raise Conflict("Another trainer has this job, or it has ended. Stop.", code="claim_lost")
    if answer["has_result"] or answer["status"] in _NOT_TRAINING:
        await context.services.jobs.advance(trainer.job_id)
    return ReportReceipt(accepted_seq=answer["accepted_seq"], cancel_requested=answer["cancel_requested"])
