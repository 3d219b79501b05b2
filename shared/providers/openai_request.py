"""How a run is asked for at OpenAI."""

from __future__ import annotations

import re
from typing import Any

from shared.training.spec import RunSpec

JOB_KEY, ATTEMPT_KEY = "fineflow_job", "fineflow_attempt"  # of the metadata, by which a run is found
_MOST_SUFFIX = 64


def create_request(spec: RunSpec, file_id: str, idempotency_key: str) -> dict[str, Any]:
    """The arguments of `fine_tuning.jobs.create`.

    What OpenAI has no setting for, like learning_rate, is not sent; what the user did not set is left
    to OpenAI, all but the epochs.
    """
    config = spec.config
    multiplier = config.learning_rate_multiplier
    kind = "dpo" if spec.method == "dpo" else "supervised"
    hyperparameters: dict[str, Any] = {
        "n_epochs": config.epochs,  # always said: the estimate counts on it
        "batch_size": config.batch_size or "auto",
        "learning_rate_multiplier": "auto" if multiplier == 1.0 else multiplier,
    }
    if kind == "dpo":
        hyperparameters["beta"] = config.beta
    request: dict[str, Any] = {
        "model": spec.base_model,
        "training_file": file_id,
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "seed": config.seed,
        "metadata": {JOB_KEY: idempotency_key, ATTEMPT_KEY: str(spec.attempt)},
    }
    suffix = re.sub(r"[^A-Za-z0-9]+", "-", spec.model_name)[:_MOST_SUFFIX].strip("-")
    return request | ({"suffix": suffix} if suffix else {})
