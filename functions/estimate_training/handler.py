"""estimate-training: what a training would take. Changes nothing, so it may be called at every keystroke."""

from __future__ import annotations

from uuid import UUID, uuid4

from pydantic import Field

from functions.context import Context
from functions.messages import Request, Response
from shared.errors import InvalidRequest
from shared.providers.base import TrainingProvider
from shared.providers.registry import choose
from shared.training.catalog import TINY, resolve
from shared.training.files import TrainingFile
from shared.training.spec import BaseModelId, DatasetFile, Method, RunSpec, TrainingConfig


class TrainingOptions(Request):
    """How and where to train."""

    provider: str = Field(default="local", max_length=40)
    base_model: BaseModelId = TINY
    method: Method = "full"
    training_config: TrainingConfig = TrainingConfig()
    gpu: str | None = Field(
        default=None,
        max_length=40,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9:!+_-]*$",
        description="As the provider names it.",
    )


class EstimateTraining(TrainingOptions):
    dataset_id: UUID


class Range(Response):
    low: float | None  # None: not known
    high: float | None


class TrainingEstimate(Response):
    dataset_id: UUID
    provider: str
    base_model: str
    method: Method
    training_config: TrainingConfig
    example_count: int
    training_tokens: int = Field(description="One epoch.")
    billable_tokens: int = Field(description="All epochs.")
    cost_usd: float | None = Field(description="The middle; null: no price is known.")
    duration_seconds: Range
    memory_bytes: Range
    price_source: str
    price_date: str
    notes: list[str]


async def handle(request: EstimateTraining, context: Context) -> TrainingEstimate:
    """Cost, duration and memory, with where each price comes from."""
    await context.visible("training_datasets", request.dataset_id, what="dataset")
    provider = choose(context.services.providers, request.provider, request.method)
    file = await context.services.jobs.build_training_file(request.dataset_id, request.method)
    if file.row_count == 0:
        raise InvalidRequest("The dataset has no valid pair to train on.", code="dataset_too_small")
    spec = spec_to_estimate(request, file, provider)
    estimate = provider.estimate(spec, file)
    return TrainingEstimate(
        dataset_id=request.dataset_id,
        provider=request.provider,
        base_model=request.base_model,
        method=request.method,
        training_config=spec.config,
        example_count=file.row_count,
        training_tokens=estimate.training_tokens,
        billable_tokens=estimate.billable_tokens,
        cost_usd=estimate.cost_usd,
        duration_seconds=Range(low=estimate.duration_seconds_low, high=estimate.duration_seconds_high),
        memory_bytes=Range(low=estimate.memory_bytes_low, high=estimate.memory_bytes_high),
        price_source=estimate.price_source,
        price_date=estimate.price_date,
        notes=estimate.notes,
    )


def spec_to_estimate(options: TrainingOptions, file: TrainingFile, provider: TrainingProvider) -> RunSpec:
    """The run that would be started, of a job that is not there yet.

    Its config is resolved where our trainer runs; a vendor chooses for itself what is None.
    """
    config = options.training_config
    if provider.runs_our_trainer:
        config = resolve(config, options.base_model, options.method)
    return RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=options.base_model,
        method=options.method,
        config=config,
        dataset=DatasetFile(sha256=file.sha256, row_count=file.row_count),
        gpu=options.gpu,
    )
