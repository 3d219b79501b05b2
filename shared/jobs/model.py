"""A job as its row says, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.db import Row
from shared.jobs.state import JobStatus


@dataclass(frozen=True)
class Job:
    """What the job core needs of a `training_jobs` row."""

    id: UUID
    project_id: UUID
    dataset_id: UUID
    user_id: UUID
    status: JobStatus
    version: int
    provider: str
    base_model: str
    method: str
    training_config: dict[str, Any]
    provider_job_id: str | None
    attempt: int
    cancel_requested_at: str | None
    deadline_at: datetime | None

    @classmethod
    def from_row(cls, row: Row) -> Job:
        """The job of a row as PostgREST returns it."""
        deadline = row["deadline_at"]
        return cls(
            id=UUID(row["id"]),
            project_id=UUID(row["project_id"]),
            dataset_id=UUID(row["dataset_id"]),
            user_id=UUID(row["user_id"]),
            status=JobStatus(row["status"]),
            version=row["version"],
            provider=row["provider"],
            base_model=row["base_model"],
            method=row["method"],
            training_config=row["training_config"],
            provider_job_id=row["provider_job_id"],
            attempt=row["attempt"],
            cancel_requested_at=row["cancel_requested_at"],
            deadline_at=datetime.fromisoformat(deadline) if deadline else None,
        )


@dataclass(frozen=True)
class Claim:
    """A job that nobody else may write until the lease ends."""

    job: Job
    lease_token: UUID
    failures: int  # steps in a row that reached nobody
    is_overdue: bool  # by the database's clock
    submitted_seconds_ago: float | None  # None: no attempt was made yet

    @classmethod
    def from_row(cls, row: Row) -> Claim:
        """The claim of what claim_training_job returns."""
        return cls(
            job=Job.from_row(row),
            lease_token=UUID(row["lease_token"]),
            failures=row["failures"],
            is_overdue=row["is_overdue"],
            submitted_seconds_ago=row["submitted_seconds_ago"],
        )
