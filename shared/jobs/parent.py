"""A model of a project as what another training starts from: where that can be, and why not elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.db import Row
from shared.errors import Conflict, InvalidRequest
from shared.models.stored import stored, whereabouts
from shared.providers.base import TrainingProvider
from shared.training.spec import ParentModel, parent_id

if TYPE_CHECKING:
    from shared.jobs.model import Job
    from shared.jobs.store import JobStore


async def parent_of_job(
    store: JobStore, job: Job, provider: TrainingProvider, *, begins: bool = False
) -> ParentModel | None:
    """None: the base model of the job is none of its project. begins: nothing has been trained from it yet.

    Raises what `require_usable`, if it begins, and `parent_of` raise.
    """
    model_id = parent_id(job.base_model)
    if model_id is None:
        return None
    model = await store.model(model_id)
    if begins:
        require_usable(model, job.method)
    return parent_of(model, provider)


def require_usable(model: Row, method: str) -> None:
    """Raises Conflict for a model that is not there any more, or not yet, and InvalidRequest where the method
    cannot train what it is."""
    name = _named(model)
    if model["status"] != "ready":
        raise Conflict(
            f"{name} is {model['status']}: nothing can be trained from it. Take a model that is ready, or"
            f" {model['root_base_model']}, which it was trained from.",
            code="model_not_ready",
        )
    if model["method"] == "embedding" and method != "embedding":
        raise InvalidRequest(
            f"{name} makes vectors of texts and gives no answers, so {method} cannot train it. Take method"
            " 'embedding', or a model that answers.",
            code="base_model_misplaced",
        )


def parent_of(model: Row, provider: TrainingProvider) -> ParentModel:
    """What a run there must know of the model, whose weights its trainer can reach.

    Raises InvalidRequest that says where it could be trained, or what else there.
    """
    path = model["artifact_path"]
    reason = _out_of_reach(model, provider)
    if reason is not None:
        raise InvalidRequest(
            reason,
            code="base_model_misplaced",
            details={"modelId": str(model["id"]), "provider": provider.name},
        )
    return ParentModel(root_base_model=model["root_base_model"], artifact_path=path)


def _out_of_reach(model: Row, provider: TrainingProvider) -> str | None:
    name, path, theirs = _named(model), model["artifact_path"], model["provider"]
    if path is None:
        return (
            f"{theirs} keeps the weights of {name}, so our trainer cannot go on from it. Train an open model"
            " with 'local', 'modal' or 'huggingface' first."
        )
    if not provider.runs_our_trainer:
        return (
            f"{provider.name} trains models of its own, and {name} is one of yours. Take provider"
            f" {theirs!r}{'' if stored(path) is None else ', or any that runs our trainer'}."
        )
    if stored(path) is not None:
        return None
    if provider.name != theirs or not provider.keeps_disk:
        return (
            f"{name} lies on the disk of {theirs!r}, where it was trained, and {provider.name!r} has another."
            f" Take provider {theirs!r}. Models of 'huggingface' lie in Storage, within reach of all."
        )
    if provider.name == "local" and whereabouts(path) != "here":
        return f"The weights of {name} are not on this machine any more: {path} is gone. Train it again."
    return None


def _named(model: Row) -> str:
    return f"{model['name']}:{model['version']}"
