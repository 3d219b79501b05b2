"""A run that goes on: it is polled, stopped when it has to be, and its end is recorded once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared.errors import ProviderRejected
from shared.jobs.end import fail, stop
from shared.jobs.model import Claim, Job, Release
from shared.jobs.state import JobStatus, path
from shared.providers.base import ProviderReport, ReportedStatus
from shared.training.spec import RunError, RunState

if TYPE_CHECKING:
    from shared.jobs.advance import JobCore
    from shared.keys.store import OpenedKey
    from shared.providers.base import TrainingProvider

_ENDS: dict[RunState, ReportedStatus] = {
    RunState.COMPLETED: "completed",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}


async def watch(
    core: JobCore, claim: Claim, provider: TrainingProvider, key: OpenedKey | None, ref: str
) -> Job | Release:
    """The job is as the provider says, or nothing is new."""
    if claim.trainer_ref is not None and claim.trainer_ref != ref:
        # Two runs were made and the other one has the claim: that one is the job's.
        return await core.store.move(
            claim, [], release_seconds=0, provider_job_id=claim.trainer_ref, sweep_after_seconds=0
        )
    claim = await _with_limits(core, claim)
    if claim.job.cancel_requested_at:
        await provider.cancel(ref, key=key)
    report = await provider.poll(ref, key=key, cursor=claim.cursor)
    return await _record(core, claim, _by_trainer(claim, provider, report))


async def _with_limits(core: JobCore, claim: Claim) -> Claim:
    """A stop is asked for when a limit is passed; the provider's answer decides how the job ends."""
    job = claim.job
    if job.cancel_requested_at is not None:
        return claim
    capped = job.spend_cap_usd is not None and (claim.cost_so_far_usd or 0) >= job.spend_cap_usd
    if not capped and not core.timing.overdue(claim):
        return claim
    _, row = await core.store.request_cancel(job.id, "spend_cap" if capped else "deadline")
    return replace(claim, job=Job.from_row(row), cancel_seconds_ago=claim.cancel_seconds_ago or 0)


def _by_trainer(claim: Claim, provider: TrainingProvider, report: ProviderReport) -> ProviderReport:
    """What our own trainer said of its end counts: the place where it ran knows of a process only."""
    result = claim.trainer_result
    if report.result is not None or not provider.runs_our_trainer:
        return report
    if result is not None and result.state in _ENDS:
        return replace(report, status=_ENDS[result.state], result=result, error=result.error or report.error)
    if report.status == "completed":
        missing = RunError(
            code="result_missing", message="The run ended without saying what it made. Start the job again."
        )
        return replace(report, status="failed", error=missing)
    if claim.is_claimed and report.status in ("validating", "queued"):
        return replace(report, status="training")  # the trainer is at work, the place need not know
    return report


async def _record(core: JobCore, claim: Claim, report: ProviderReport) -> Job | Release:
    statuses = path(claim.job.status, JobStatus(report.status))
    cost_usd = report.cost_usd if report.cost_usd is not None else claim.cost_so_far_usd
    if report.status == "completed":
        return await _complete(core, claim, statuses, report, cost_usd)
    if report.status == "failed":
        told = report.error or RunError(code="provider_failed", message="The provider gave no reason.")
        error = ProviderRejected(told.message, code=told.code)
        return await fail(core, claim, error, report=report, cost_usd=cost_usd)
    if report.status == "cancelled":
        return await stop(core, claim, "Cancelled", report=report, cost_usd=cost_usd)
    if (claim.cancel_seconds_ago or 0) > core.timing.cancel:
        return await fail(core, claim, _not_confirmed(claim.job), report=report, cost_usd=cost_usd)
    return await _go_on(core, claim, statuses, report)


async def _go_on(
    core: JobCore, claim: Claim, statuses: list[JobStatus], report: ProviderReport
) -> Job | Release:
    cap_usd = claim.job.spend_cap_usd
    capped = cap_usd is not None and (report.cost_usd or 0) >= cap_usd and not claim.job.cancel_requested_at
    wait = 0 if capped else core.timing.until_poll(claim, core.random)
    columns = claim.job.changes(_latest(claim, statuses, report))
    nothing_new = not (statuses or columns or report.events or report.metrics or claim.failures)
    if nothing_new and report.cursor in (None, claim.cursor):
        return Release(claim.job.id, claim.lease_token, wait)
    return await core.store.move(claim, statuses, release_seconds=wait, report=report, **columns)


def _latest(claim: Claim, statuses: list[JobStatus], report: ProviderReport) -> dict[str, Any]:
    columns: dict[str, Any] = {"cost_usd": report.cost_usd}
    progress = report.progress
    if progress is not None:
        names = ("epoch", "step", "total_steps", "training_loss", "validation_loss", "trained_tokens")
        columns |= {name: getattr(progress, name) for name in (*names, "progress_percent")}
    if claim.job.cancel_requested_at is None:
        # Without progress the trainer itself says more, and later.
        step = progress.current_step if progress else (report.current_step if statuses else None)
        columns["current_step"] = step
    return columns


async def _complete(
    core: JobCore, claim: Claim, statuses: list[JobStatus], report: ProviderReport, cost_usd: float | None
) -> Job:
    result = report.result
    return await core.store.complete(
        claim,
        statuses,
        result.model_dump(mode="json") if result else {},
        report,
        progress_percent=100,
        current_step="Completed",
        training_loss=result.training_loss if result else None,
        trained_tokens=result.trained_tokens if result else None,
        cost_usd=cost_usd,
    )


def _not_confirmed(job: Job) -> ProviderRejected:
    return ProviderRejected(
        f"{job.provider} was asked to stop the run {job.provider_job_id} and never did. Look at it there.",
        code="stop_not_confirmed",
    )
