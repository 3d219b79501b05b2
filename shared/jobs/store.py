"""All that is asked of the database about jobs. Each method is one transaction."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from shared.db import Database, Row
from shared.errors import FineFlowError, NotFound
from shared.jobs.model import Claim, Job
from shared.jobs.state import JobStatus


class LeaseLost(FineFlowError):
    """Somebody else holds the job now. Whoever sees this writes nothing more."""

    status, default_code = 409, "lease_lost"


class JobStore:
    """Jobs, as the service."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, job: Row) -> tuple[str, Row]:
        """The outcome (`created`, `existing`, `key_reused`, `dataset_not_ready`, `dataset_not_found`) and
        what belongs to it: the job row as `job`, or the dataset's `status`."""
        answer: Row = await self._db.call("create_training_job", job=job)
        return answer["outcome"], answer

    async def get(self, job_id: UUID) -> Job:
        """The job. Raises NotFound."""
        row = await self._db.find("training_jobs", id=job_id)
        if row is None:
            raise NotFound(f"There is no training job {job_id}.", code="job_not_found")
        return Job.from_row(row)

    async def claim(self, job_id: UUID, *, lease_seconds: int) -> Claim | None:
        """The job under a fresh lease; None: it has ended, or somebody else holds it."""
        row = await self._db.call("claim_training_job", job_id=str(job_id), lease_seconds=lease_seconds)
        return Claim.from_row(row) if row else None

    async def due(self, limit: int) -> list[UUID]:
        """Jobs that should be looked at now, the longest waiting first."""
        rows = await self._db.call("due_training_jobs", limit=limit)
        return [UUID(str(row)) for row in rows or []]

    async def move(
        self,
        claim: Claim,
        statuses: list[JobStatus],
        *,
        release_seconds: float | None = None,
        failures: int = 0,
        **columns: Any,
    ) -> Job:
        """The job after walking through `statuses` and setting `columns`; None leaves a column as it is.

        `release_seconds` gives the lease back and says when to look again; None keeps it.
        Raises LeaseLost.
        """
        row = await self._db.call(
            "move_training_job",
            job_id=str(claim.job.id),
            lease_token=str(claim.lease_token),
            statuses=statuses,
            patch=_given(columns),
            release_seconds=release_seconds,
            failures=failures,
        )
        return _written(row)

    async def complete(self, claim: Claim, statuses: list[JobStatus], model: Row, **columns: Any) -> Job:
        """The job is completed and its model is registered. Raises LeaseLost."""
        row = await self._db.call(
            "complete_training_job",
            job_id=str(claim.job.id),
            lease_token=str(claim.lease_token),
            statuses=statuses,
            patch=_given(columns),
            model=model,
        )
        return _written(row)

    async def request_cancel(self, job_id: UUID) -> tuple[str, Row]:
        """`requested` or `already_ended`, and the row."""
        answer: Row = await self._db.call("request_training_cancel", job_id=str(job_id))
        return answer["outcome"], answer["job"]

    async def report(self, job_id: UUID, *, attempt: int, run_id: UUID, reports: list[Row]) -> Row:
        """What report_training answers; its `outcome` is `accepted`, `claim_lost` or `job_not_found`."""
        answer: Row = await self._db.call(
            "report_training", job_id=str(job_id), attempt=attempt, run_id=str(run_id), reports=reports
        )
        return answer


def _given(columns: Row) -> Row:
    return {name: value for name, value in columns.items() if value is not None}


def _written(row: Row | None) -> Job:
    if row is None:
        raise LeaseLost("Another function took this job over.")
    return Job.from_row(row)
