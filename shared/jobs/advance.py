"""Moves a job one step. Everything that can happen to a job calls this, and nothing else writes its status.

A call is a hint: lost, doubled or out of order it ends in the same place, because each step first
takes a lease, commits what it is about to do, does it, and records what came back under that lease.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from shared.errors import (
    CallerError,
    FineFlowError,
    ProviderNotEligible,
    ProviderRejected,
    ProviderUnavailable,
    ServiceUnavailable,
)
from shared.jobs.model import Claim, Job
from shared.jobs.state import JobStatus, path
from shared.jobs.store import JobStore, LeaseLost
from shared.jobs.token import TrainerTokens
from shared.log import logger
from shared.providers.base import ProviderReport, TrainingProvider
from shared.providers.registry import Providers, choose
from shared.training.files import TrainingFile
from shared.training.spec import Callback, DatasetFile, RunError, RunSpec, TrainingConfig

LEASE_SECONDS = 90  # longer than any step: upload and create time out before
_log = logger("jobs")


@dataclass(frozen=True)
class JobCore:
    """The job core and what it works with."""

    store: JobStore
    providers: Providers
    tokens: TrainerTokens
    report_url: str
    build_training_file: Callable[[UUID], Awaitable[TrainingFile]]
    start_grace_seconds: float = 60  # an attempt that is not found this long after it was made never arrived

    async def advance(self, job_id: UUID) -> Job:
        """The job after one step, or as it is when somebody else holds it or it has ended."""
        claim = await self.store.claim(job_id, lease_seconds=LEASE_SECONDS)
        if claim is None:
            return await self.store.get(job_id)
        try:
            return await self._step(claim)
        except LeaseLost:
            _log.info("lease lost", job_id=str(job_id))
            return await self.store.get(job_id)
        except (ProviderUnavailable, ServiceUnavailable) as error:
            # Nobody knows what happened, so nothing is concluded from it.
            _log.warning("step reached nobody", job_id=str(job_id), code=error.code, error=error.message)
            wait = _backoff_seconds(claim.failures)
            return await self.store.move(claim, [], release_seconds=wait, failures=claim.failures + 1)
        except (ProviderRejected, ProviderNotEligible, CallerError) as error:
            return await self._fail(claim, error)

    async def _step(self, claim: Claim) -> Job:
        job = claim.job
        provider = choose(self.providers, job.provider, job.method)
        if job.status == JobStatus.PENDING:
            return await self._start(claim, provider)
        if job.provider_job_id is None:
            return await self._recover(claim, provider)
        return await self._watch(claim, provider, job.provider_job_id)

    async def _start(self, claim: Claim, provider: TrainingProvider) -> Job:
        job = claim.job
        if job.cancel_requested_at:
            return await self.store.move(
                claim, [JobStatus.CANCELLED], release_seconds=0, current_step="Cancelled before it started"
            )
        file = await self.build_training_file(job.dataset_id)
        # The intent is committed before the call: whoever finds this row later knows to look for a run.
        job = await self.store.move(
            claim,
            [JobStatus.UPLOADING],
            submit=True,
            current_step=f"Uploading {file.row_count} rows ({len(file.content):,} bytes)",
        )
        ref = await provider.start(
            _spec(job, file), file, idempotency_key=str(job.id), callback=self._callback(job), key=None
        )
        return await self._bind(claim, ref)

    async def _bind(self, claim: Claim, provider_job_id: str) -> Job:
        return await self.store.move(
            claim,
            [JobStatus.VALIDATING, JobStatus.QUEUED],
            release_seconds=1,
            provider_job_id=provider_job_id,
            current_step="Waiting for the trainer",
        )

    async def _recover(self, claim: Claim, provider: TrainingProvider) -> Job:
        """An attempt was made and its answer was lost: look for the run; start again only after the grace."""
        refs = await provider.find(str(claim.job.id), key=None)
        if refs:
            return await self._bind(claim, refs[0])
        if (claim.submitted_seconds_ago or 0) < self.start_grace_seconds:
            return await self.store.move(claim, [], release_seconds=2, failures=claim.failures)
        if claim.job.cancel_requested_at:
            return await self.store.move(
                claim, [JobStatus.CANCELLED], release_seconds=0, current_step="Cancelled before it started"
            )
        return await self.store.move(
            claim,
            [JobStatus.PENDING],
            release_seconds=0,
            current_step="The start did not arrive; trying again",
        )

    async def _watch(self, claim: Claim, provider: TrainingProvider, ref: str) -> Job:
        if claim.is_overdue:
            await provider.cancel(ref, key=None)
            report = await provider.poll(ref, key=None)
            if report.status != "completed":
                return await self._fail(claim, _deadline_passed())
        elif claim.job.cancel_requested_at:
            await provider.cancel(ref, key=None)
            report = await provider.poll(ref, key=None)
        else:
            report = await provider.poll(ref, key=None)
        return await self._record(claim, report)

    async def _record(self, claim: Claim, report: ProviderReport) -> Job:
        job = claim.job
        statuses = path(job.status, JobStatus(report.status))
        if report.status == "completed":
            return await self._complete(claim, statuses, report)
        if report.status == "failed":
            error = report.error or RunError(code="provider_failed", message="The provider gave no reason.")
            return await self.store.move(
                claim, statuses, release_seconds=0, error=error.model_dump(), current_step="Failed"
            )
        if report.status == "cancelled":
            return await self.store.move(claim, statuses, release_seconds=0, current_step="Cancelled")
        wait = 1 if job.cancel_requested_at else _poll_seconds(job)
        step = report.current_step if statuses else None  # the trainer itself says more, and later
        return await self.store.move(claim, statuses, release_seconds=wait, current_step=step)

    async def _complete(self, claim: Claim, statuses: list[JobStatus], report: ProviderReport) -> Job:
        result = report.result
        return await self.store.complete(
            claim,
            statuses,
            result.model_dump(mode="json") if result else {},
            progress_percent=100,
            current_step="Completed",
            training_loss=result.training_loss if result else None,
            trained_tokens=result.trained_tokens if result else None,
            cost_usd=report.cost_usd,
        )

    async def _fail(self, claim: Claim, error: FineFlowError) -> Job:
        return await self.store.move(
            claim,
            [JobStatus.FAILED],
            release_seconds=0,
            error={"code": error.code, "message": error.message},
            current_step="Failed",
        )

    def _callback(self, job: Job) -> Callback:
        left = (job.deadline_at - datetime.now(UTC)).total_seconds() if job.deadline_at else 21_600
        # A day more than the job may take: a trainer that was cut off can still say how it ended.
        token = self.tokens.issue(job.id, job.attempt, valid_seconds=int(left) + 86_400)
        return Callback(url=self.report_url, token=token)


def _spec(job: Job, file: TrainingFile) -> RunSpec:
    return RunSpec(
        job_id=job.id,
        attempt=job.attempt,
        run_id=uuid4(),
        base_model=job.base_model,
        method=job.method,
        config=TrainingConfig.model_validate(job.training_config),
        dataset=DatasetFile(sha256=file.sha256, row_count=file.row_count),
    )


def _deadline_passed() -> ProviderRejected:
    return ProviderRejected(
        "The job took longer than its time limit and was stopped. Start it again with more timeoutSeconds.",
        code="deadline_exceeded",
    )


def _poll_seconds(job: Job) -> float:
    """How long to leave a run alone. Trainers report by themselves; this finds those that cannot any more."""
    return 2 if job.status != JobStatus.TRAINING else 5


def _backoff_seconds(failures: int) -> float:
    """Full jitter, so that jobs which failed together do not come back together."""
    return random.uniform(1, min(60, 2.0 ** min(failures + 1, 6)))
