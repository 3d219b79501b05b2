"""What the advisor says of a dataset, as clients see it. Nothing of it is applied."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import Field

from functions.context import Context, Services
from functions.estimate_training.known import KnownRuns
from functions.estimate_training.parent import named_model
from functions.estimate_training.plan import TrainingOptions
from functions.messages import Response
from shared.db import Row
from shared.errors import InvalidRequest
from shared.jobs.parent import parent_of, require_usable
from shared.training.advising.advise import advise
from shared.training.advising.model import Advice, Goal, Kind, Question
from shared.training.config import Method, TrainingConfig
from shared.training.files import TrainingFile
from shared.training.prices import vendor
from shared.training.spec import ParentModel

_METHOD_OF_KIND: dict[Kind, Method] = {"sft": "full", "preference": "dpo", "kto": "kto"}


class AdvisedChoice(Response):
    name: str = Field(description="method, base_model, place, or a training setting.")
    value: Any
    reason: str
    source: str = Field(description="Whose rule it is.")


class RejectedOption(Response):
    option: str
    reason: str


class AdviceGiven(Response):
    meets_limits: bool = Field(description="false: nothing keeps to budget and deadline; this comes nearest.")
    choices: list[AdvisedChoice]
    rejected: list[RejectedOption]
    next_step: str | None = Field(description="What to train afterwards.")
    template: dict[str, Any] = Field(
        description="A row of training_templates without name and project: insert it to keep the advice."
    )


async def advice_for(
    options: TrainingOptions,
    dataset: Row,
    context: Context,
    *,
    goal: Goal,
    budget_usd: float | None,
    deadline_seconds: float | None,
) -> Advice:
    """What to train on the dataset; what the request itself names stays. Raises InvalidRequest when the
    dataset has no usable pair, or when no place of this server can hold any of it."""
    given, services = options.model_fields_set, context.services
    files = await _files(UUID(dataset["id"]), services)
    base_model = options.base_model if "base_model" in given else None
    parent, places = await _parent(options, goal, dataset["project_id"], context)
    root = parent.root_base_model if parent else base_model
    known = await KnownRuns.load(root, dataset["project_id"], context)
    question = Question(
        files=files,
        places=tuple(name for name in places if options.provider == name or "provider" not in given),
        goal=goal,
        base_model=base_model,
        parent=parent,
        shape=known.shape,
        method=options.method if "method" in given else None,
        budget_usd=budget_usd,
        deadline_seconds=deadline_seconds,
        local_memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        known=known.of,
    )
    advice = await asyncio.to_thread(advise, question)
    if advice is None:
        raise InvalidRequest(
            "The dataset has no valid pair for this method."
            if not any(file.row_count for file in files.values())
            else "No place of this server can train this base model on these rows. Name another base model,"
            " method or provider.",
            code="dataset_too_small" if not files else "nothing_to_advise",
        )
    return advice


def advised(options: TrainingOptions, advice: Advice) -> dict[str, Any]:
    """The fields of a request that the advice sets; settings that the request names stay."""
    said = options.training_config.model_dump(exclude_unset=True)
    config = advice.config.model_dump(exclude_unset=True) | said
    return {
        "provider": advice.place,
        "base_model": advice.base_model,
        "method": advice.method,
        "gpu": options.gpu or advice.gpu,
        "training_config": TrainingConfig.model_validate(config),
    }


def as_given(advice: Advice, services: Services) -> AdviceGiven:
    """The advice for a client, with the vendors that were not looked at."""
    others = (name for name, provider in services.providers.items() if not provider.runs_our_trainer)
    rejected = [RejectedOption(option=item.option, reason=item.reason) for item in advice.rejected]
    return AdviceGiven(
        meets_limits=advice.meets,
        choices=[AdvisedChoice(**vars(choice)) for choice in advice.choices],
        rejected=[*rejected, *(RejectedOption(option=name, reason=_of_vendor(name)) for name in others)],
        next_step=advice.next_step,
        template={
            "method": advice.method,
            "base_model": advice.base_model,
            "training_config": advice.config.model_dump(mode="json", exclude_unset=True),
        },
    )


def _of_vendor(name: str) -> str:
    facts = vendor(name)
    closing = f" It takes no job from {facts.closes_on} on." if facts and facts.closes_on else ""
    return f"Trains in its own way, with models of its own; estimate it with provider {name}.{closing}"


async def _parent(
    options: TrainingOptions, goal: Goal, project_id: str, context: Context
) -> tuple[ParentModel | None, list[str]]:
    """What is known of a base model that is one of the project, and the places that can train the base model.

    Raises what `parent_of` raises where none can.
    """
    ours = [provider for provider in context.services.providers.values() if provider.runs_our_trainer]
    model = await named_model(options.base_model, project_id, context)
    if model is None:
        return None, [provider.name for provider in ours]
    usual = "embedding" if goal == "search" else "lora"
    require_usable(model, options.method if "method" in options.model_fields_set else usual)
    within_reach: dict[str, ParentModel] = {}
    refusal: InvalidRequest | None = None
    for provider in ours:
        try:
            within_reach[provider.name] = parent_of(model, provider)
        except InvalidRequest as error:
            refusal = error
    if not within_reach and refusal is not None:
        raise refusal
    return next(iter(within_reach.values()), None), list(within_reach)


async def _files(dataset_id: UUID, services: Services) -> Mapping[Kind, TrainingFile]:
    """The rows of each kind, of those that the dataset has."""
    found: dict[Kind, TrainingFile] = {}
    for kind, method in _METHOD_OF_KIND.items():
        rows = services.db.table("training_pairs").select("id").eq("dataset_id", str(dataset_id))
        if not (await services.db.run(rows.eq("kind", kind).limit(1))).data:
            continue
        file = await services.jobs.build_training_file(dataset_id, method)
        if file.row_count:
            found[kind] = file
    return found
