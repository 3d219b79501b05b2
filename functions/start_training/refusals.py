"""Why a training does not start, each with what to do instead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from functions.context import Services
from functions.estimate_training.budget import standing_with
from shared.db import Row
from shared.errors import CallerError, Conflict, InvalidRequest, NotFound, PayloadTooLarge
from shared.models.stored import too_large
from shared.providers.alternatives import alternative, with_alternative
from shared.providers.base import TrainingProvider
from shared.training import catalog
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.lifetime import ending
from shared.training.spec import RunSpec


def require_time_left(
    services: Services, seller: str, spec: RunSpec, file: TrainingFile, *, timeout_seconds: int
) -> None:
    """Raises InvalidRequest when the base model or the provider ends before the job must have ended."""
    now = services.now()
    end = ending(seller, spec.base_model, now=now, until=now + timedelta(seconds=timeout_seconds))
    if end is None:
        return
    details = {"baseModel": spec.base_model, "endsOn": str(end.ends_on), "source": end.source}
    offer = alternative(services.providers, spec, file)
    instead = f" Take {offer['baseModel']} with {offer['provider']} instead." if offer else ""
    raise InvalidRequest(end.message + instead, code=end.code, details=with_alternative(details, offer))


def require_room_in_storage(services: Services, provider: TrainingProvider, base_model: str) -> None:
    """Raises PayloadTooLarge where the model must go to Storage and is known to be larger than the limit.

    Its weights are written with two bytes each. Of a base model outside the catalogue nothing is known.
    """
    shape = catalog.shape(base_model)
    if provider.keeps_disk or shape is None:
        return
    size_bytes, limit_bytes = 2 * shape.parameters, services.settings.model_storage_limit_bytes
    if size_bytes > limit_bytes:
        raise PayloadTooLarge(too_large(size_bytes, limit_bytes), code="artifact_too_large")


def require_room_under_cap(estimate: Estimate, spend_cap_usd: float | None) -> None:
    """Raises InvalidRequest for a cap that a bill by the token would pass: it is known only at the end."""
    by_token = estimate.usd_per_million_tokens is not None
    if spend_cap_usd is None or not by_token or (estimate.cost_usd or 0) <= spend_cap_usd:
        return
    raise InvalidRequest(
        f"This run costs {estimate.cost_usd:.2f} USD, more than its spend cap of {spend_cap_usd:.2f} USD, and"
        " its provider bills at the end, so it could not be stopped on the way. Train fewer epochs, or raise"
        " spendCapUsd.",
        code="spend_cap_below_estimate",
        details={"costUsd": estimate.cost_usd, "spendCapUsd": spend_cap_usd},
    )


def require_same_rows(file: TrainingFile, dataset_sha256: str, validation_sha256: str | None) -> None:
    """Raises Conflict when the rows are not those of the recipe; None: it held none out."""
    held_out = file.validation.sha256 if file.validation else None
    for part, wanted, found in (
        ("training", dataset_sha256, file.sha256),
        ("validation", validation_sha256, held_out),
    ):
        if wanted != found:
            raise Conflict(
                f"The {part} rows of this dataset are not those of the recipe: their sha256 is {found}, the"
                f" recipe says {wanted}. Take the dataset as it was then, or train without the recipe.",
                code="dataset_changed",
                details={"part": part, "wantedSha256": wanted, "foundSha256": found},
            )


def not_created(outcome: str, answer: Row) -> CallerError:
    """What is told when create_training_job made no row."""
    if outcome == "dataset_not_ready":
        return Conflict(
            f"The dataset is {answer['status']}. Training starts from a dataset that is ready.",
            code="dataset_not_ready",
            details={"status": answer["status"]},
        )
    if outcome == "key_reused":
        return Conflict(
            "This idempotencyKey was used for a job with other parameters. Choose a new one.",
            code="idempotency_key_reused",
            details={"jobId": answer["job"]["id"]},
        )
    if outcome == "budget_exceeded":
        left = max(0.0, float(answer["budget"]["remaining_usd"]))
        return Conflict(
            f"This job may cost {answer['held_usd']:.2f} USD, and {left:.2f} USD of the project's budget are"
            " left this month. Train less, set a lower spendCapUsd, or raise the budget.",
            code="budget_exceeded",
            details=_details(answer),
        )
    if outcome == "cost_unknown":
        return Conflict(
            "What this job will cost is not known, and the budget of the project blocks what it cannot count."
            " Set spendCapUsd: that much is held back.",
            code="cost_unknown",
            details=_details(answer),
        )
    return NotFound("The dataset was deleted meanwhile.", code="dataset_not_found")


def _details(answer: Row) -> dict[str, Any]:
    standing = standing_with(answer["budget"], answer["held_usd"])
    return {"neededUsd": answer["held_usd"], "budget": standing.model_dump(mode="json", by_alias=True)}
