"""How a job ends badly: failed with a reason, or stopped by who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import FineFlowError, ProviderRejected
from shared.jobs.model import Claim, Job
from shared.jobs.state import JobStatus
from shared.jobs.store import AttemptOutcome
from shared.log import redact
from shared.providers.base import ProviderReport

if TYPE_CHECKING:
    from shared.jobs.advance import JobCore

_MESSAGE_CHARS = 2000


async def fail(
    core: JobCore,
    claim: Claim,
    error: FineFlowError,
    *,
    outcome: AttemptOutcome | None = None,
    report: ProviderReport | None = None,
    cost_usd: float | None = None,
) -> Job:
    """The job has failed and says why."""
    shown: dict[str, Any] = {"code": error.code, "message": redact(error.message)[:_MESSAGE_CHARS]}
    if error.details:
        shown["details"] = error.details
    return await core.store.move(
        claim,
        [JobStatus.FAILED],
        release_seconds=0,
        outcome=outcome,
        report=report,
        error=shown,
        current_step="Failed",
        cost_usd=cost_usd,
    )


async def stop(
    core: JobCore,
    claim: Claim,
    step: str,
    *,
    outcome: AttemptOutcome | None = None,
    report: ProviderReport | None = None,
    cost_usd: float | None = None,
) -> Job:
    """The job has stopped: cancelled when the user or the provider wanted it, failed when a limit did."""
    job = claim.job
    if job.stop_reason == "spend_cap":
        return await fail(core, claim, _cap_reached(job), outcome=outcome, report=report, cost_usd=cost_usd)
    if job.stop_reason == "deadline" or (job.cancel_requested_at is None and core.timing.overdue(claim)):
        return await fail(core, claim, _too_long(claim), outcome=outcome, report=report, cost_usd=cost_usd)
    return await core.store.move(
        claim,
        [JobStatus.CANCELLED],
        release_seconds=0,
        outcome=outcome,
        report=report,
        current_step=step,
        cost_usd=cost_usd,
    )


def refused_by_us(error: Exception) -> FineFlowError:
    """What is told of an error of ours, or of a request that cannot be served."""
    if isinstance(error, FineFlowError):
        return error
    return ProviderRejected(
        "Something in this job cannot be worked on; the server's log says what. Start it again.",
        code="internal",
    )


def _cap_reached(job: Job) -> ProviderRejected:
    return ProviderRejected(
        f"The run reached its spend cap of {job.spend_cap_usd:.2f} USD and was stopped. "
        "Start it again with a higher spendCapUsd.",
        code="spend_cap_reached",
    )


def _too_long(claim: Claim) -> ProviderRejected:
    if claim.is_overdue:
        message = "The job passed its time limit and was stopped. Start it again with more timeoutSeconds."
    else:
        hours = claim.status_seconds / 3600
        message = f"The job was {claim.job.status} for {hours:.0f} hours and was stopped. Start it again."
    return ProviderRejected(message, code="deadline_exceeded")
