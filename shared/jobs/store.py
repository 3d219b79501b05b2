"""All that is asked of the database about jobs. Each method is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal
from uuid import UUID

from shared.db import Database, Row
from shared.errors import FineFlowError, NotFound
from shared.jobs.model import Claim, Job, Release, Sweep
from shared.jobs.state import JobStatus
from shared.providers.base import ProviderReport
from shared.training.sizing.calibration import Expectation

AttemptOutcome = Literal["bound", "refused", "not_found"]


class LeaseLost(FineFlowError):
    """Somebody else holds the job now. Whoever sees this writes nothing more."""

    status, default_code = 409, "lease_lost"


class JobStore:
    """Jobs, as the service."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, job: Row) -> tuple[str, Row]:
        """The outcome (`created`, `existing`, `key_reused`, `dataset_not_ready`, `dataset_not_found`, ...)
        and what belongs to it: the job row as `job`, or the dataset's `status`."""
        answer: Row = await self._db.call("create_training_job", job=job)
        return answer["outcome"], answer

    async def expect(self, job_id: UUID, expected: Expectation, *, ends_in_seconds: float) -> None:
        """What is expected of the job is written, once; its ETA is that until its trainer says more."""
        columns = asdict(expected) | {"ends_in_seconds": ends_in_seconds}
        await self._db.call("expect_training_job", job_id=str(job_id), expected=columns)

    async def get(self, job_id: UUID) -> Job:
        """The job. Raises NotFound."""
        row = await self._db.find("training_jobs", id=job_id)
        if row is None:
            raise NotFound(f"There is no training job {job_id}.", code="job_not_found")
        return Job.from_row(row)

    async def model(self, model_id: UUID) -> Row:
        """The row of a model. Raises NotFound."""
        row = await self._db.find("fine_tuned_models", id=model_id)
        if row is None:
            raise NotFound(f"There is no model {model_id} any more.", code="model_not_found")
        return row

    async def claim(self, job_id: UUID, *, lease_seconds: float) -> Claim | None:
        """The job under a fresh lease, due or not. None: it has ended, somebody else holds it, or its
        provider is left alone for a while."""
        rows = await self._db.call(
            "claim_training_jobs", limit=1, lease_seconds=lease_seconds, job_id=str(job_id)
        )
        return Claim.from_row(rows[0]) if rows else None

    async def claim_due(self, limit: int, *, lease_seconds: float) -> list[Row]:
        """Jobs that should be looked at now, each under a fresh lease, the longest waiting first.

        Rows for Claim.from_row.
        """
        rows: list[Row] = await self._db.call("claim_training_jobs", limit=limit, lease_seconds=lease_seconds)
        return rows

    async def move(
        self,
        claim: Claim,
        statuses: list[JobStatus],
        *,
        release_seconds: float | None = None,
        failures: int = 0,
        crashes: int = 0,
        not_found: bool = False,
        outcome: AttemptOutcome | None = None,
        sweep_after_seconds: float | None = None,
        report: ProviderReport | None = None,
        documents: Mapping[str, Sequence[str]] | None = None,
        **columns: Any,
    ) -> Job:
        """The job after walking through `statuses` and setting `columns`; None leaves a column as it is.

        `release_seconds` gives the lease back and says when to look again; None keeps it. `outcome` goes
        to the ledger of create calls, `report`'s events and metrics to the history. With `submit`,
        `documents` are the pairs of each document that the start will give away. Raises LeaseLost.
        """
        control = {
            "failures": failures,
            "crashes": crashes,
            "not_found": not_found,
            "cursor": report.cursor if report else None,
            "attempt_outcome": outcome,
            "sweep_after_seconds": sweep_after_seconds,
        }
        row = await self._db.call(
            "move_training_job",
            job_id=str(claim.job.id),
            lease_token=str(claim.lease_token),
            statuses=statuses,
            patch=_given(columns),
            release_seconds=release_seconds,
            control=_given(control),
            history=_history(report) | ({"documents": documents} if documents else {}),
        )
        return _written(row)

    async def complete(
        self, claim: Claim, statuses: list[JobStatus], model: Row, report: ProviderReport, **columns: Any
    ) -> Job:
        """The job is completed and its model is registered. Raises LeaseLost."""
        row = await self._db.call(
            "complete_training_job",
            job_id=str(claim.job.id),
            lease_token=str(claim.lease_token),
            statuses=statuses,
            patch=_given(columns),
            model=model,
            history=_history(report),
        )
        return _written(row)

    async def release(self, releases: Sequence[Release]) -> None:
        """The claims are given back, all at once. One whose lease was lost is left alone."""
        if releases:
            rows = [
                {
                    "job_id": str(release.job_id),
                    "lease_token": str(release.lease_token),
                    "release_seconds": release.seconds,
                }
                for release in releases
            ]
            await self._db.call("release_training_jobs", releases=rows)

    async def request_cancel(self, job_id: UUID, reason: str = "user") -> tuple[str, Row]:
        """`requested` or `already_ended`, and the row. The first reason stays."""
        answer: Row = await self._db.call("request_training_cancel", job_id=str(job_id), reason=reason)
        return answer["outcome"], answer["job"]

    async def hint(self, job_id: UUID) -> None:
        """The job is looked at as soon as anybody looks."""
        await self._db.call("hint_training_job", job_id=str(job_id))

    async def report(
        self,
        job_id: UUID,
        *,
        attempt: int,
        run_id: UUID,
        reports: list[Row],
        provider_job_id: str | None = None,
    ) -> Row:
        """What report_training answers; its `outcome` is `accepted`, `claim_lost` or `job_not_found`."""
        answer: Row = await self._db.call(
            "report_training",
            job_id=str(job_id),
            attempt=attempt,
            run_id=str(run_id),
            reports=reports,
            provider_job_id=provider_job_id,
        )
        return answer

    async def record_fetched(
        self, job_id: UUID, *, attempt: int, documents: Mapping[str, Sequence[str]]
    ) -> None:
        """The trainer of this attempt gets these pairs of each document, beside what it fetched before."""
        await self._db.call(
            "record_fetched_documents", job_id=str(job_id), attempt=attempt, documents=documents
        )

    async def note_failure(self, job: Job, *, seconds: float, counts: bool) -> None:
        """The account is left alone at this provider for `seconds`, and longer after several failures."""
        await self._db.call(
            "note_provider_failure",
            provider=job.provider,
            user_id=str(job.user_id),
            seconds=seconds,
            counts=counts,
        )

    async def note_success(self, job: Job) -> None:
        """The provider answers this account again."""
        await self._db.call("note_provider_success", provider=job.provider, user_id=str(job.user_id))

    async def claim_sweeps(self, limit: int, *, lease_seconds: float) -> list[Sweep]:
        """Attempts whose extra runs are to be looked for now."""
        rows = await self._db.call("claim_run_sweeps", limit=limit, lease_seconds=lease_seconds)
        return [Sweep.from_row(row) for row in rows]

    async def finish_sweep(
        self, sweep: Sweep, *, extra_runs: int = 0, retry_seconds: float | None = None
    ) -> None:
        """Looked, and `extra_runs` were stopped; or nobody was reached and it is tried again later."""
        await self._db.call(
            "finish_run_sweep",
            job_id=str(sweep.job_id),
            attempt=sweep.attempt,
            extra_runs=extra_runs,
            retry_seconds=retry_seconds,
        )


def _history(report: ProviderReport | None) -> Row:
    if report is None:
        return {}
    history: Row = {}
    if report.events:
        history["events"] = [asdict(event) | {"data": dict(event.data)} for event in report.events]
    if report.metrics:
        history["metrics"] = [asdict(metrics) for metrics in report.metrics]
    return history


def _given(columns: Row) -> Row:
    return {name: value for name, value in columns.items() if value is not None}


def _written(row: Row | None) -> Job:
    if row is None:
        raise LeaseLost("Another function took this job over.")
    return Job.from_row(row)
