"""What OpenAI says of a fine-tuning job, in our words.

Field names as in OpenAI's reference of fine-tuning, read 2026-11-20. What is missing, or has another
shape at a service that only resembles OpenAI, is left out and never an error: every field may be None.
"""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, SecretStr

from shared.providers.base import ProviderEvent, ReportedStatus, StepMetrics
from shared.providers.wire import told
from shared.training.spec import Progress, RunError, RunResult, RunState

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
    from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

STATUSES: dict[str, ReportedStatus] = {
    "validating_files": "validating",
    "queued": "queued",
    "running": "training",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
_MOST_VALUES = 50
_MOST_STEPS = 2**31
_CSV_HEAD = b"step,"
_LEVELS: dict[str, Any] = {"warn": "warning", "warning": "warning", "error": "error"}


def status_of(job: FineTuningJob) -> ReportedStatus:
    """A word that is not in the table is a run that goes on: the SDK can pause one, no status says so."""
    return STATUSES.get(job.status, "training")


def events_of(found: Iterable[FineTuningJobEvent], key: SecretStr) -> tuple[ProviderEvent, ...]:
    """Messages of the job, without the metrics among them, which have a table of their own."""
    return tuple(
        ProviderEvent(
            id=event.id,
            message=told(event.message or "", key),
            level=_LEVELS.get(event.level, "info"),
            data=told_values(event.data, key),
        )
        for event in found
        if event.type != "metrics"
    )


def checkpoint_events(found: Iterable[FineTuningJobCheckpoint], key: SecretStr) -> tuple[ProviderEvent, ...]:
    """One event a checkpoint, the oldest first."""
    oldest_first = sorted(found, key=lambda checkpoint: checkpoint.step_number or 0)
    return tuple(
        ProviderEvent(
            id=checkpoint.id,
            message=f"Checkpoint at step {checkpoint.step_number}",
            data={
                "model": told(checkpoint.fine_tuned_model_checkpoint or "", key),
                "step": checkpoint.step_number,
                **told_values(_fields(checkpoint.metrics), key),
            },
        )
        for checkpoint in oldest_first
    )


def told_values(data: object, key: SecretStr) -> dict[str, Any]:
    """The plain values of a vendor's object, at most fifty; texts without keys and cut."""
    if not isinstance(data, Mapping):
        return {}
    return {
        told(str(name), key): told(value, key) if isinstance(value, str) else value
        for name, value in list(data.items())[:_MOST_VALUES]
        if value is None or isinstance(value, str | bool | int | float)
    }


def metrics_of(found: Iterable[FineTuningJobEvent], job: FineTuningJob) -> tuple[StepMetrics, ...]:
    """The metrics among the events, in their order."""
    rows = [event.data for event in found if event.type == "metrics" and isinstance(event.data, Mapping)]
    return tuple(
        metrics for row in rows if (metrics := _step_metrics(row, job, _number(row.get("total_steps"))))
    )


def metrics_of_file(content: bytes, job: FineTuningJob) -> tuple[StepMetrics, ...]:
    """The steps of a result file: CSV, or CSV in base64 as OpenAI sends it."""
    if not content.lstrip().startswith(_CSV_HEAD):
        try:
            content = base64.b64decode(content, validate=False)
        except ValueError:
            return ()
    rows = list(csv.DictReader(io.StringIO(content.decode(errors="replace"))))
    total = max((_number(row.get("step")) or 0 for row in rows), default=0)
    return tuple(metrics for row in rows if (metrics := _step_metrics(row, job, total)))


def progress_of(
    job: FineTuningJob, found: Iterable[FineTuningJobEvent], metrics: tuple[StepMetrics, ...]
) -> Progress | None:
    """How far a running job is, by its latest metrics; None when there are none."""
    if not metrics and job.trained_tokens is None:
        return None
    latest = metrics[-1] if metrics else None
    totals = [_number(event.data.get("total_steps")) for event in found if isinstance(event.data, Mapping)]
    total = next((int(total) for total in reversed(totals) if total), None)
    share = min(latest.step / total, 1.0) if latest and total else 0.0
    return Progress(
        progress_percent=round(100 * share, 2),
        current_step=current_step(job, latest.step if latest else None, total),
        epoch=latest.epoch if latest else None,
        total_epochs=_epochs(job),
        step=latest.step if latest else None,
        total_steps=total,
        training_loss=latest.training_loss if latest else None,
        validation_loss=latest.validation_loss if latest else None,
        trained_tokens=job.trained_tokens,
    )


def current_step(job: FineTuningJob, step: int | None, total_steps: int | None) -> str:
    """For people. OpenAI counts tokens only when the run has ended; other services do so on the way."""
    if job.trained_tokens:
        return f"Training... ({job.trained_tokens} tokens trained)"
    return f"Training... (step {step} of {total_steps or '?'})" if step is not None else "Training..."


def result_of(job: FineTuningJob, metrics: tuple[StepMetrics, ...]) -> RunResult:
    """What a run leaves behind that has succeeded."""
    losses = [step.training_loss for step in metrics if step.training_loss is not None]
    held_out = [step.validation_loss for step in metrics if step.validation_loss is not None]
    figures: dict[str, Any] = {"steps": max((step.step for step in metrics), default=None)}
    figures["validation_loss"] = held_out[-1] if held_out else None
    figures["epochs"] = _epochs(job)
    seconds = job.finished_at - job.created_at if job.finished_at and job.created_at else None
    return RunResult(
        state=RunState.COMPLETED,
        provider_model_id=job.fine_tuned_model,
        training_loss=losses[-1] if losses else None,
        trained_tokens=job.trained_tokens,
        duration_seconds=max(0, seconds) if seconds is not None else None,
        metrics={name: value for name, value in figures.items() if value is not None},
        recipe={"seed": job.seed, "base_model": job.model, "hyperparameters": _hyperparameters(job)},
    )


def error_of(job: FineTuningJob, key: SecretStr) -> RunError:
    """Why a run failed, as the vendor says it."""
    code = re.sub(r"[^a-z0-9_]", "_", told((job.error and job.error.code) or "", key).lower())[:60]
    message = told((job.error and job.error.message) or "", key)
    return RunError(
        code=code if re.fullmatch(r"[a-z][a-z0-9_]{1,60}", code) else "provider_failed",
        message=message or "The provider gave no reason.",
    )


def _step_metrics(row: Mapping[str, Any], job: FineTuningJob, total: float | None) -> StepMetrics | None:
    step = _number(row.get("step"))
    if step is None or not 0 <= step < _MOST_STEPS:
        return None
    epochs = _epochs(job)
    # "full" means: over the whole validation file, not a batch of it.
    held_out = _number(row.get("full_valid_loss")) or _number(row.get("valid_loss"))
    return StepMetrics(
        step=int(step),
        epoch=round(step / total * epochs, 4) if total and epochs else None,
        training_loss=_number(row.get("train_loss")),
        validation_loss=held_out,
    )


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is: text, number, None
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _epochs(job: FineTuningJob) -> int | None:
    epochs = _hyperparameters(job).get("n_epochs")
    return epochs if isinstance(epochs, int) and epochs >= 1 else None


def _hyperparameters(job: FineTuningJob) -> dict[str, Any]:
    """What the vendor chose, where it was left to it."""
    return _fields(job.hyperparameters)


def _fields(part: BaseModel | None) -> dict[str, Any]:
    return part.model_dump(exclude_none=True) if part is not None else {}
