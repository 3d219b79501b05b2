"""estimate-training: what a training would take. Changes nothing, so it may be called at every keystroke."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pydantic import Field

from functions.context import Context
from functions.estimate_training.advice import AdviceGiven, advice_for, advised, as_given
from functions.estimate_training.budget import BudgetStanding, budget_of
from functions.estimate_training.plan import TrainingOptions, plan
from functions.estimate_training.template import with_template
from functions.messages import Response
from shared.datasets.xray import Totals
from shared.db import Row
from shared.errors import InvalidRequest
from shared.providers.registry import choose
from shared.training.advising.model import Advice, Goal
from shared.training.config import SUPERVISED, Method, TrainingConfig
from shared.training.lifetime import ending


class EstimateTraining(TrainingOptions):
    dataset_id: UUID
    advise: bool = Field(
        default=False,
        description="Choose for these rows what the request leaves open, and say why. Starts nothing.",
    )
    goal: Goal = Field(default="answers", description="With advise: search trains an embedding model.")
    budget_usd: float | None = Field(default=None, gt=0, le=1e6, description="With advise: what it may cost.")
    deadline_seconds: int | None = Field(
        default=None, ge=60, le=604_800, description="With advise: when it must have ended. null: six hours."
    )


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
    trained_tokens: int | None = Field(
        description="Of trainingTokens, those that are learned and not only read; null: the dataset as it is"
        " was not validated with this base model, and trainingTokens are counted with o200k_base."
    )
    cost_usd: float | None = Field(description="The middle; null: no price is known.")
    cost_range_usd: Range = Field(description="A budget holds back the high end.")
    duration_seconds: Range
    timeout_seconds: int = Field(description="When the job would be stopped.")
    memory_bytes: Range
    memory_parts: dict[str, int] | None = Field(
        description="The high end, before calibration: weights, adapters, gradients, optimizer, activations,"
        " loss, allocator and runtime, in bytes; null: not known."
    )
    gpu: str | None = Field(description="As the provider names it; null: there is none to choose.")
    gpu_count: int = Field(description="Of them; memoryBytes is that of one.")
    price_unit: str | None = Field(
        description="million_training_tokens, second or hour; null: nothing is billed."
    )
    usd_per_second: float | None
    usd_per_million_tokens: float | None
    price_source: str
    price_date: str
    shutdown_date: str | None = Field(
        description="From then on the base model and its fine-tunes do not answer."
    )
    closes_date: str | None = Field(description="From then on the provider takes no job.")
    budget: BudgetStanding
    advice: AdviceGiven | None = Field(description="Of the run that is estimated here; null: not asked for.")
    notes: list[str]


async def handle(request: EstimateTraining, context: Context) -> TrainingEstimate:
    """Cost, duration and memory, with where each price comes from, and how the budget stands."""
    dataset = await context.visible("training_datasets", request.dataset_id, what="dataset")
    request = await with_template(request, dataset["project_id"], context)
    advice = await _advice(request, dataset, context) if request.advise else None
    if advice is not None:
        request = request.model_copy(update=advised(request, advice))
    provider = choose(context.services.providers, request.provider, request.method)
    file = await context.services.jobs.build_training_file(request.dataset_id, request.method)
    if file.row_count == 0:
        raise InvalidRequest("The dataset has no valid pair to train on.", code="dataset_too_small")
    spec, estimate, seller, seen = await plan(request, dataset, file, provider, context)
    held_usd = estimate.held_usd(request.spend_cap_usd)
    facts = estimate.as_json()
    now = context.services.now()
    timeout_seconds = request.timeout_seconds or estimate.time_limit_seconds()
    until = now + timedelta(seconds=timeout_seconds)
    if end := ending(seller, request.base_model, now=now, until=until):
        facts["notes"].insert(0, f"It would not be started: {end.message}")
    if seen is not None:
        facts["notes"] += _of_tokens(seen, request.base_model)
    elif provider.runs_our_trainer and request.method in SUPERVISED:
        facts["notes"].append(
            "Tokens are counted with o200k_base; validate-dataset with this baseModel counts its own."
        )
    return TrainingEstimate(
        dataset_id=request.dataset_id,
        provider=request.provider,
        base_model=request.base_model,
        method=request.method,
        training_config=spec.config,
        example_count=file.row_count,
        timeout_seconds=timeout_seconds,
        trained_tokens=seen.trained_tokens if seen else None,
        budget=await budget_of(context.user_db, dataset["project_id"], held_usd),
        advice=as_given(advice, context.services) if advice else None,
        **facts,
    )


async def _advice(request: EstimateTraining, dataset: Row, context: Context) -> Advice:
    return await advice_for(
        request,
        dataset,
        context,
        goal=request.goal,
        budget_usd=request.budget_usd,
        deadline_seconds=request.deadline_seconds,
    )


def _of_tokens(seen: Totals, base_model: str) -> list[str]:
    if seen.refusal:
        return [f"It would not be started: {seen.refusal}"]
    counted = f"Of {seen.tokens:,} tokens an epoch, counted with those of {base_model},"
    notes = [f"{counted} {seen.trained_tokens:,} are learned and the others only read."]
    if seen.left_out_rows:
        notes.append(f"{seen.left_out_rows:,} of {seen.rows:,} rows are over maxLength and are left out.")
    return notes
