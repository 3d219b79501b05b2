"""What to train instead where a provider will not have an account or a model: open weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.providers.base import TrainingProvider
from shared.training.catalog import CATALOG, resolve
from shared.training.config import SUPERVISED, Method, TrainingConfig
from shared.training.files import TrainingFile
from shared.training.spec import RunSpec

# The first of these that the server has, each with an open model that fits the place: one GPU, or a laptop.
_PLACES = (("modal", "Qwen/Qwen3-4B"), ("huggingface", "Qwen/Qwen3-4B"), ("local", "Qwen/Qwen3-0.6B"))


def alternative(
    available: Mapping[str, TrainingProvider], spec: RunSpec, dataset: TrainingFile
) -> dict[str, Any] | None:
    """What start-training would take for an open model on the same rows, with its estimate; None: no place.

    Names are camelCase. Rows of preferences are trained by their own method only, so they may find no place.
    """
    method: Method = "lora" if spec.method in SUPERVISED else spec.method
    for name, base_model in _PLACES:
        provider = available.get(name)
        if provider is None or method not in provider.methods:
            continue
        config = TrainingConfig(epochs=spec.config.epochs, seed=spec.config.seed)
        if provider.runs_our_trainer:
            config = resolve(config, base_model, method)
        other = spec.model_copy(
            update={"base_model": base_model, "parent": None, "method": method, "config": config, "gpu": None}
        )
        return {
            "provider": name,
            "baseModel": base_model,
            "license": CATALOG[base_model].license,
            "method": method,
            "trainingConfig": {"epochs": config.epochs},
            "needsKey": provider.key,
            **provider.estimate(other, dataset).as_json(),
        }
    return None


def with_alternative(details: Any, offer: dict[str, Any] | None) -> dict[str, Any] | None:
    """The details of an error, with the offer under `alternative` where there is one."""
    known = dict(details) if isinstance(details, Mapping) else {}
    return known | {"alternative": offer} if offer else known or None
