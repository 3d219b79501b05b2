"""A job as its row says, and the claim on it, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.db import Row
from shared.jobs.state import JobStatus
from shared.training.spec import RunResult


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
    base_revision: str | None
    method: str
    model_name: str
    gpu: str | None
    gpu_count: int
    training_config: dict[str, Any]
    provider_job_id: str | None
    attempt: int
    timeout_seconds: int
    cancel_requested_at: str | None
    stop_reason: str | None
    spend_cap_usd: float | None
    progress_percent: float
    current_step: str
    epoch: float | None
    step: int | None
    total_steps: int | None
    training_loss: float | None
    validation_loss: float | None
    trained_tokens: int | None
    cost_usd: float | None

    @classmethod
    def from_row(cls, row: Row) -> Job:
        """The job of a row as PostgREST returns it."""
        taken = {name: row[name] for name in cls.__dataclass_fields__}
        taken |= {name: UUID(row[name]) for name in ("id", "project_id", "dataset_id", "user_id")}
        return cls(**taken | {"status": JobStatus(row["status"])})

    def changes(self, columns: Row) -> Row:
        """What of `columns` says something new. None says nothing."""
        return {
            name: value
            for name, value in columns.items()
            if value is not None and value != getattr(self, name)
        }


@dataclass(frozen=True)
class Claim:
    """A job that nobody else may write until the lease ends. All times are the database's."""

    job: Job
    lease_token: UUID
    failures: int  # steps in a row that reached nobody
    crashes: int  # steps in a row that ended in an error of our own
    cursor: str | None  # the last event that the provider told us of
    trainer_ref: str | None  # the provider's id of the run, as the trainer says
    trainer_result: RunResult | None  # how the trainer says that it ended
    is_claimed: bool  # a trainer has claimed the present attempt
    is_overdue: bool
    status_seconds: float  # in this status
    submitted_seconds_ago: float | None  # None: no attempt was made yet
    cancel_seconds_ago: float | None  # None: no stop was asked for
    not_found: int  # polls in a row that were answered with 404
    not_found_seconds: float  # since the first of them
    cost_so_far_usd: float | None  # by the clock; None: not priced by time
    breaker_failures: int  # of this account at this provider, in a row

    @classmethod
    def from_row(cls, row: Row) -> Claim:
        """One claim of what claim_training_jobs returns."""
        taken = {
            name: row[name] for name in cls.__dataclass_fields__ if name not in ("job", "trainer_result")
        }
        result = row["trainer_result"]
        return cls(
            job=Job.from_row(row),
            trainer_result=RunResult.model_validate(result) if result else None,
            **taken | {"lease_token": UUID(row["lease_token"])},
        )


@dataclass(frozen=True)
class Release:
    """A claim that is given back because nothing is new: no row of a client changes."""

    job_id: UUID
    lease_token: UUID
    seconds: float  # until the next look


@dataclass(frozen=True)
class Sweep:
    """An attempt whose provider is searched for runs beside the one that the job has."""

    job_id: UUID
    attempt: int
    provider: str
    user_id: UUID
    status: JobStatus | None  # None: the job was deleted
    provider_job_id: str | None

    @classmethod
    def from_row(cls, row: Row) -> Sweep:
        """One item of what claim_run_sweeps returns."""
        return cls(
            job_id=UUID(row["job_id"]),
            attempt=row["attempt"],
            provider=row["provider"],
            user_id=UUID(row["user_id"]),
            status=JobStatus(row["status"]) if row["status"] else None,
            provider_job_id=row["provider_job_id"],
        )
