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
from functions.estimate_training.plan import TrainingOptions, plan
from functions.estimate_training.template import with_template
from functions.manage_api_keys.handler import check_and_set
from functions.messages import Response
from functions.start_training.learning import require_something_to_learn
from functions.start_training.refusals import (
    not_created,
    require_room_in_storage,
    require_room_under_cap,
    require_same_rows,
    require_time_left,
)
from shared.datasets.checker import FEW_ROWS
from shared.db import Row
from shared.errors import InvalidRequest, ServiceUnavailable
from shared.jobs.store import JobStore
from shared.log import logger
from shared.providers.base import TrainingProvider
from shared.providers.registry import choose
from shared.training.config import Method
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.recipe import Sha256
from shared.training.spec import RunSpec

_log = logger("start-training")


class StartTraining(TrainingOptions):
    """Either a dataset to train on, with everything about it, or (row events) the id of a job."""

    dataset_id: UUID | None = None
    job_id: UUID | None = Field(default=None, description="Row events only.")
    model_name: str | None = Field(default=None, min_length=1, max_length=120)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=200)
    dataset_sha256: Sha256 | None = Field(
        default=None, description="Of a recipe: nothing starts on other rows. null: on any."
    )
    validation_sha256: Sha256 | None = Field(default=None, description="The same of the rows held out.")
    api_key: SecretStr | None = Field(
        default=None, description="Stored as manage-api-keys set would, for the address of the key before."
    )

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
    warnings: list[str] = Field(default=[], description="What the budget says to a job that it lets through.")


async def handle(request: StartTraining, context: Context) -> JobStarted:
    """The job exists and has made its first steps, or nothing was changed."""
    if request.job_id is not None:
        if context.caller.user_id is not None:
            raise InvalidRequest("Give datasetId; jobId is for row events.")
        job = await context.services.jobs.advance(request.job_id)
        return JobStarted(job_id=job.id, status=job.status, version=job.version, created=False)

    assert request.dataset_id is not None  # the validator above
    dataset = await context.visible("training_datasets", request.dataset_id, what="dataset", least="editor")
    request = await with_template(request, dataset["project_id"], context)
    provider = choose(context.services.providers, request.provider, request.method)
    assert request.dataset_id is not None  # as before
    file = await _training_file(context, request.dataset_id, request.method)
    if request.dataset_sha256 is not None:
        require_same_rows(file, request.dataset_sha256, request.validation_sha256)
    spec, estimate, seller, seen = await plan(request, dataset, file, provider, context)
    timeout_seconds = request.timeout_seconds or estimate.time_limit_seconds()
    if provider.runs_our_trainer:
        await require_something_to_learn(context.services, spec, file, seen)
    require_time_left(context.services, seller, spec, file, timeout_seconds=timeout_seconds)
    require_room_in_storage(context.services, provider, spec.root_base_model)
    require_room_under_cap(estimate, request.spend_cap_usd)
    await _require_key(context, provider, request.api_key)

    row = _row(request, dataset, spec, context.user_id) | _money(request, estimate)
    row["timeout_seconds"] = timeout_seconds
    outcome, answer = await context.services.jobs.store.create(row)
    if outcome not in ("created", "existing"):
        raise not_created(outcome, answer)
    job = await context.services.jobs.advance(UUID(answer["job"]["id"]))
    if outcome == "created":  # afterwards, so that this call and not the row's event makes the first steps
        await _note_expectation(context.services.jobs.store, job.id, estimate)
    return JobStarted(
        job_id=job.id,
        status=job.status,
        version=job.version,
        created=outcome == "created",
        warnings=answer.get("warnings", []),
    )


def _row(request: StartTraining, dataset: Row, spec: RunSpec, user_id: UUID) -> Row:
    asked: dict[str, Any] = {
        "dataset_id": str(request.dataset_id),
        "provider": request.provider,
        "base_model": request.base_model,
        "method": request.method,
        "model_name": request.model_name or dataset["name"],
        "training_config": spec.config.model_dump(mode="json"),
        "gpu": request.gpu,
        "spend_cap_usd": request.spend_cap_usd,
        "timeout_seconds": request.timeout_seconds,
    }
    if request.base_revision is not None:  # else requests from before it hash as they did
        asked["base_revision"] = request.base_revision
    if request.gpu_count > 1:  # as before
        asked["gpu_count"] = request.gpu_count
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return asked | {
        "user_id": str(user_id),
        "idempotency_key": request.idempotency_key or str(uuid4()),
        "request_hash": fingerprint,
    }


def _money(request: StartTraining, estimate: Estimate) -> Row:
    """The GPU that was priced and its price, so that the run is what was estimated."""
    return {
        "gpu": request.gpu or estimate.gpu,
        "estimated_cost_usd": estimate.cost_usd,
        "reserved_usd": estimate.cost_usd_high,
        "usd_per_second": estimate.usd_per_second,
        "usd_per_million_tokens": estimate.usd_per_million_tokens,
    }


async def _note_expectation(store: JobStore, job_id: UUID, estimate: Estimate) -> None:
    """What was expected is remembered, to be compared with what comes; a job starts also without that."""
    if estimate.expected is None or estimate.duration_seconds_high is None:
        return
    try:
        await store.expect(job_id, estimate.expected, ends_in_seconds=estimate.duration_seconds_high)
    except ServiceUnavailable as error:
        _log.warning("expectation not noted", job_id=str(job_id), error=repr(error))


async def _training_file(context: Context, dataset_id: UUID, method: Method) -> TrainingFile:
    file = await context.services.jobs.build_training_file(dataset_id, method)
    if file.row_count < FEW_ROWS:
        raise InvalidRequest(
            f"The dataset has {file.row_count} usable pairs to train on; at least {FEW_ROWS} are needed.",
            code="dataset_too_small",
            details={"usablePairs": file.row_count, "minimum": FEW_ROWS},
        )
    return file


async def _require_key(context: Context, provider: TrainingProvider, api_key: SecretStr | None) -> None:
    if provider.key is None:
        return
    if api_key is not None:
        stored = await context.services.keys.status(context.user_id)
        base_url = next((row["base_url"] for row in stored if row["provider"] == provider.key), None)
        await check_and_set(context, provider.key, api_key, base_url)
    elif await context.services.keys.open(context.user_id, provider.key) is None:
        raise InvalidRequest(
            f"Training with {provider.name} needs your {provider.key} key. Set it with manage-api-keys.",
            code="api_key_missing",
            details={"provider": provider.key},
        )
