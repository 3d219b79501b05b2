"""The run that would be started, and what it would take. Shared by estimate-training and start-training."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from uuid import UUID, uuid4

from pydantic import Field

from functions.context import Context
from functions.estimate_training.known import KnownRuns
from functions.estimate_training.parent import usable_model
from functions.messages import Request
from shared.datasets.dataset_xray import fresh_totals
from shared.datasets.xray import Totals
from shared.db import Row
from shared.errors import InvalidRequest, ProviderNotEligible
from shared.jobs.parent import parent_of
from shared.providers.alternatives import alternative, with_alternative
from shared.providers.base import TrainingProvider
from shared.providers.local_line import cuda_device_count
from shared.training.catalog import TINY, misplaced, resolve, unfit
from shared.training.config import SUPERVISED, Method, TrainingConfig
from shared.training.engines import unsuited
from shared.training.estimate import Estimate, at_vendor
from shared.training.files import TrainingFile
from shared.training.gpu_count import unavailable, unshared
from shared.training.spec import MOST_GPUS, BaseModelId, ParentModel, RunSpec, parent_id, root_of

_OWN_ADDRESS = "the service at your baseUrl"


class TrainingOptions(Request):
    """How and where to train."""

    provider: str = Field(default="local", max_length=40)
    base_model: BaseModelId = Field(
        default=TINY,
        description="A Hub id, a path on this machine, or model:<id of a model of the project>.",
    )
    base_revision: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{40}$",
        description="Commit of a Hub model, where our trainer runs; null: its newest.",
    )
    method: Method = "full"
    training_config: TrainingConfig = TrainingConfig()
    template: str | None = Field(
        default=None,
        min_length=1,
        max_length=80,
        description="Name or id: sets method, baseModel and trainingConfig where they are not given here.",
    )
    gpu: str | None = Field(
        default=None,
        max_length=40,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9:!+_-]*$",
        description="As the provider names it; null: chosen for the model.",
    )
    gpu_count: int = Field(
        default=1,
        ge=1,
        le=MOST_GPUS,
        description="GPUs of one machine that train the run together, each a part of every batch.",
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=60,
        le=604_800,
        description="When the job is stopped; null: after six hours, or twice its estimate if that is more.",
    )
    spend_cap_usd: float | None = Field(
        default=None, gt=0, le=100_000, description="A run that has cost this much is stopped."
    )


class Plan(NamedTuple):
    """What would be started, and what it takes."""

    spec: RunSpec
    estimate: Estimate
    seller: str  # whose prices and dates hold: the provider, or a service that only speaks like it
    seen: Totals | None = None  # what the X-ray found in exactly this file; None: it was not looked at


async def plan(
    options: TrainingOptions,
    dataset: Row,
    file: TrainingFile,
    provider: TrainingProvider,
    context: Context,
) -> Plan:
    """The plan of these options for the calling user. Tokens are those that the X-ray of validate-dataset
    found for the base model where there is one of this very file, else as the file counts them.

    Raises InvalidRequest for a base model of somebody else's, one of the project that cannot be had there,
    and for an engine or GPUs that cannot do it there; NotFound and Conflict for one of the project that is
    not there; ProviderNotEligible, with an open model as the alternative, for a provider that trains nothing.
    """
    _require_revision(options, provider)
    own_address = provider.name == "openai" and await _has_own_address(context)
    model = await usable_model(options.base_model, options.method, dataset["project_id"], context)
    parent = parent_of(model, provider) if model else None
    _require_fitting_base(options, parent, own_address=own_address)
    _require_engine(options)
    spec = spec_to_estimate(options, file, provider, parent)
    _require_gpus(spec, provider)
    if own_address:
        return Plan(spec, at_vendor(spec, file, vendor=_OWN_ADDRESS), _OWN_ADDRESS)
    seen = await _seen(UUID(dataset["id"]), file, spec, provider, context)
    counted = _counted(file, seen) if seen and seen.tokens else file
    known = await KnownRuns.load(spec.root_base_model, dataset["project_id"], context)
    try:
        of_such_runs = known.of(provider.name, spec.root_base_model, spec.method)
        return Plan(spec, provider.estimate(spec, counted, of_such_runs), provider.name, seen)
    except ProviderNotEligible as error:
        offer = alternative(context.services.providers, spec, file)
        raise ProviderNotEligible(
            error.message, code=error.code, details=with_alternative(error.details, offer)
        ) from error


def spec_to_estimate(
    options: TrainingOptions, file: TrainingFile, provider: TrainingProvider, parent: ParentModel | None
) -> RunSpec:
    """The run that would be started, of a job that is not there yet.

    Its config is resolved where our trainer runs; a vendor chooses for itself what is None.
    """
    config = options.training_config
    if provider.runs_our_trainer:
        config = resolve(config, root_of(options.base_model, parent), options.method)
    dataset, validation = file.parts
    return RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=options.base_model,
        base_revision=options.base_revision,
        parent=parent,
        method=options.method,
        config=config,
        dataset=dataset,
        validation=validation,
        gpu=options.gpu,
        gpu_count=options.gpu_count,
    )


def _counted(file: TrainingFile, seen: Totals) -> TrainingFile:
    """The file with the tokens of the base model itself."""
    return replace(
        file,
        token_count=seen.tokens,
        longest_row_tokens=seen.longest_row_tokens or None,
        has_exact_tokens=True,
    )


async def _seen(
    dataset_id: UUID, file: TrainingFile, spec: RunSpec, provider: TrainingProvider, context: Context
) -> Totals | None:
    if not provider.runs_our_trainer or spec.method not in SUPERVISED:
        return None
    assert spec.config.max_length is not None  # resolved, where our trainer runs
    return await fresh_totals(
        context.service_db, dataset_id, file.sha256, spec.root_base_model, spec.config.max_length
    )


async def _has_own_address(context: Context) -> bool:
    keys = await context.services.keys.status(context.user_id)
    return any(row["provider"] == "openai" and row["base_url"] for row in keys)


def _require_engine(options: TrainingOptions) -> None:
    reason = unsuited(options.training_config, options.method, options.provider)
    if reason is not None:
        raise InvalidRequest(
            reason,
            code="engine_not_available",
            details={"engine": options.training_config.engine, "provider": options.provider},
        )


def _require_gpus(spec: RunSpec, provider: TrainingProvider) -> None:
    if provider.runs_our_trainer:
        reason = unshared(spec.config, spec.method, spec.gpu_count)
        reason = reason or unavailable(spec, provider.name, local_gpus=cuda_device_count())
    else:
        vendor_chooses = f"{provider.name} chooses its GPUs itself. Leave gpuCount out."
        reason = vendor_chooses if spec.gpu_count > 1 else None
    if reason is not None:
        raise InvalidRequest(
            reason,
            code="gpu_count_not_possible",
            details={"gpuCount": spec.gpu_count, "provider": provider.name},
        )


def _require_revision(options: TrainingOptions, provider: TrainingProvider) -> None:
    reason = None
    if not provider.runs_our_trainer:
        reason = f"{provider.name} chooses the revision of a base model itself."
    elif parent_id(options.base_model) is not None:
        reason = "A model of the project has one revision."
    if options.base_revision is not None and reason is not None:
        raise InvalidRequest(f"{reason} Leave baseRevision out.", code="base_revision_misplaced")


def _require_fitting_base(options: TrainingOptions, parent: ParentModel | None, *, own_address: bool) -> None:
    reason = None if own_address or parent else misplaced(options.base_model, options.provider)
    reason = reason or unfit(root_of(options.base_model, parent), options.method)
    if reason is not None:
        raise InvalidRequest(
            reason,
            code="base_model_misplaced",
            details={"baseModel": options.base_model, "provider": options.provider},
        )
