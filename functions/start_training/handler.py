"""start-training: checks, one row, and the job is on its way.

Called by a user it inserts a pending job, once for an idempotency key, and moves it on. Called by the
event of that row it only moves it on: a second call finds the job further along and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID, uuid4

from pydantic import Field, SecretStr, model_validator

from functions.context import Context
from functions.estimate_training.handler import MIN_PAIRS, TrainingOptions
from functions.messages import Response
from shared.db import CountMethod, Row
from shared.errors import Conflict, InvalidRequest
from shared.providers.base import TrainingProvider
from shared.providers.registry import choose
from shared.training.catalog import resolve


class StartTraining(TrainingOptions):
    """Either a dataset to train on, with everything about it, or (row events) the id of a job."""

    dataset_id: UUID | None = None
    job_id: UUID | None = Field(default=None, description="Row events only.")
    model_name: str | None = Field(default=None, min_length=1, max_length=120)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=200)
    timeout_seconds: int = Field(default=21_600, ge=60, le=604_800)
    api_key: SecretStr | None = Field(default=None, description="Stored as manage-api-keys set would.")

    @model_validator(mode="after")
    def _one_of_two(self) -> StartTraining:
        if (self.dataset_id is None) == (self.job_id is None):
            raise ValueError("give datasetId")
        return self


class JobStarted(Response):
    job_id: UUID
    status: str
    version: int
    created: bool


async def handle(request: StartTraining, context: Context) -> JobStarted:
    """The job exists and has made its first steps, or nothing was changed."""
    if request.job_id is not None:
        if context.caller.user_id is not None:
            raise InvalidRequest("Give datasetId; jobId is for row events.")
        job = await context.services.jobs.advance(request.job_id)
        return JobStarted(job_id=job.id, status=job.status, version=job.version, created=False)

    assert request.dataset_id is not None  # the validator above
    dataset = await context.visible("training_datasets", request.dataset_id, what="dataset", least="editor")
    provider = choose(context.services.providers, request.provider, request.method)
    await _require_pairs(context, request.dataset_id)
    await _require_key(context, provider, request.api_key)

    outcome, answer = await context.services.jobs.store.create(_row(request, dataset, context.user_id))
    if outcome == "dataset_not_ready":
        raise Conflict(
            f"The dataset is {answer['status']}. Training starts from a dataset that is ready.",
            code="dataset_not_ready",
            details={"status": answer["status"]},
        )
    if outcome == "key_reused":
        raise Conflict(
            "This idempotencyKey was used for a job with other parameters. Choose a new one.",
            code="idempotency_key_reused",
            details={"jobId": answer["job"]["id"]},
        )
    job = await context.services.jobs.advance(UUID(answer["job"]["id"]))
    return JobStarted(job_id=job.id, status=job.status, version=job.version, created=outcome == "created")


def _row(request: StartTraining, dataset: Row, user_id: UUID) -> Row:
    config = resolve(request.training_config, request.base_model, request.method)
    asked: dict[str, Any] = {
        "dataset_id": str(request.dataset_id),
        "provider": request.provider,
        "base_model": request.base_model,
        "method": request.method,
        "model_name": request.model_name or dataset["name"],
        "training_config": config.model_dump(mode="json"),
        "timeout_seconds": request.timeout_seconds,
    }
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return asked | {
        "user_id": str(user_id),
        "idempotency_key": request.idempotency_key or str(uuid4()),
        "request_hash": fingerprint,
        "estimated_cost_usd": 0 if request.provider == "local" else None,
    }


async def _require_pairs(context: Context, dataset_id: UUID) -> None:
    db = context.service_db
    usable = (
        db.table("training_pairs")
        .select("id", count=CountMethod.exact, head=True)
        .eq("dataset_id", str(dataset_id))
        .eq("is_valid", "true")
        .neq("review_status", "rejected")
    )
    pairs = (await db.run(usable)).count or 0
    if pairs < MIN_PAIRS:
        raise InvalidRequest(
            f"The dataset has {pairs} valid pairs; training needs {MIN_PAIRS} or more. Add documents.",
            code="dataset_too_small",
            details={"validPairs": pairs, "minimum": MIN_PAIRS},
        )


async def _require_key(context: Context, provider: TrainingProvider, api_key: SecretStr | None) -> None:
    if provider.key is None:
        return
    if api_key is not None:
        await context.services.keys.set(context.user_id, provider.key, api_key)
        return
    stored = await context.services.keys.status(context.user_id)
    if provider.key not in {row["provider"] for row in stored}:
        raise InvalidRequest(
            f"Training with {provider.name} needs your {provider.key} key. Set it with manage-api-keys.",
            code="api_key_missing",
            details={"provider": provider.key},
        )
