"""What Together says of a job, in our words."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.log import redact
from shared.providers.base import ProviderEvent, ProviderReport, ReportedStatus, StepMetrics
from shared.training.spec import Progress, RunError, RunResult, RunState

if TYPE_CHECKING:
    from together import AsyncTogether
    from together.types.finetune_event import FinetuneEvent
    from together.types.finetune_response import FinetuneResponse

# `user_error` stands in the SDK's older enum alone (together.lib.types.fine_tuning).
STATUSES: dict[str, ReportedStatus] = {
    "pending": "validating",
    "queued": "queued",
    "running": "training",
    "compressing": "training",
    "uploading": "training",
    "cancel_requested": "training",
    "cancelled": "cancelled",
    "error": "failed",
    "user_error": "failed",
    "completed": "completed",
}
_STEPS = {
    "pending": "Together looks at the training file",
    "queued": "Waiting for a machine at Together",
    "running": "Training at Together",
    "compressing": "Together packs the model",
    "uploading": "Together stores the model",
    "cancel_requested": "Together stops the training",
    "cancelled": "Cancelled",
    "completed": "Completed",
}
_BEFORE_TRAINING = ("pending", "queued")
_USD = 1e-9  # prices are in nano-dollars: `finetune_price_to_dollars` of the SDK
_TEXT_CHARACTERS = 500
_LEVELS: dict[str, Literal["info", "warning", "error"]] = {"warning": "warning", "error": "error"}
_EVENT_DATA = ("step", "total_steps", "checkpoint_path", "token_count", "param_count", "wandb_url")


@dataclass(frozen=True)
class History:
    """What has been logged since a cursor. The cursor counts what came before it."""

    events: tuple[ProviderEvent, ...] = ()
    metrics: tuple[StepMetrics, ...] = ()
    event_count: int = 0
    last_step: int = 0
    total_steps: int | None = None

    @property
    def cursor(self) -> str | None:
        seen = self.event_count or self.last_step
        return f"{self.event_count} {self.last_step}" if seen else None


async def history(client: AsyncTogether, job: FinetuneResponse, cursor: str | None) -> History:
    """Events and metrics since the cursor. Where they cannot be had now, the status is told without them."""
    from together import APIError

    before, last_step = (int(part) for part in (cursor or "0 0").split(" "))
    if job.status in _BEFORE_TRAINING:
        return History(event_count=before, last_step=last_step)
    answers = await asyncio.gather(
        client.fine_tuning.list_events(job.id),
        client.fine_tuning.list_metrics(job.id, global_step_from=last_step + 1),
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, APIError):
            raise answer
    logged, measured = answers
    events = [] if isinstance(logged, BaseException) else sorted(logged.data, key=_moment)
    rows = [] if isinstance(measured, BaseException) else measured.metrics or []
    metrics = tuple(step for step in _metrics(rows) if step.step > last_step)
    return History(
        events=tuple(_event(event) for event in events[before:]),
        metrics=metrics,
        event_count=max(before, len(events)),
        last_step=metrics[-1].step if metrics else last_step,
        total_steps=next((event.total_steps for event in reversed(events) if event.total_steps), None),
    )


def report(job: FinetuneResponse, seen: History) -> ProviderReport:
    """The state of a job."""
    status = STATUSES.get(job.status, "training")  # a word that is new to us is no end
    step = _STEPS.get(job.status, "Training at Together")
    has_ended = status in ("completed", "failed", "cancelled")
    return ProviderReport(
        status,
        current_step=None if status == "failed" else step,
        progress=_progress(job, seen, step) if status == "training" else None,
        result=_result(job, seen) if status == "completed" else None,
        error=_error(job, seen) if status == "failed" else None,
        # Before the end it is the price of the whole job; a cancelled one is billed for what it used.
        cost_usd=job.total_price * _USD if has_ended and job.total_price is not None else None,
        events=seen.events,
        metrics=seen.metrics,
        cursor=seen.cursor,
    )


def _result(job: FinetuneResponse, seen: History) -> RunResult:
    return RunResult(
        state=RunState.COMPLETED,
        provider_model_id=job.x_model_output_name or job.api_model_object_name,
        trained_tokens=job.token_count,
        training_loss=_last_loss(seen),
    )


def _error(job: FinetuneResponse, seen: History) -> RunError:
    reasons = [event.message for event in seen.events if event.level == "error"]
    reason = reasons[-1] if reasons else "It gave no reason."
    word: str = job.status
    code = "provider_refused_input" if word == "user_error" else "provider_failed"
    return RunError(code=code, message=f"Training failed at Together. {reason}")


def _progress(job: FinetuneResponse, seen: History, step: str) -> Progress | None:
    """None: nothing is new since the last look."""
    if not seen.metrics:
        return None
    latest, total = seen.metrics[-1], seen.total_steps
    eta = job.progress.seconds_remaining if job.progress and job.progress.estimate_available else None
    return Progress(
        progress_percent=min(100.0, 100 * latest.step / total) if total else 0.0,
        current_step=f"{step}: step {latest.step}" + (f" of {total}" if total else ""),
        epoch=latest.epoch if latest.epoch is not None else job.epochs_completed,
        total_epochs=job.n_epochs or None,
        step=latest.step,
        total_steps=total,
        training_loss=_last_loss(seen),
        validation_loss=latest.validation_loss,
        learning_rate=latest.learning_rate,
        eta_seconds=eta,
    )


def _last_loss(seen: History) -> float | None:
    return next(
        (step.training_loss for step in reversed(seen.metrics) if step.training_loss is not None), None
    )


def _moment(event: FinetuneEvent) -> str:
    return event.created_at  # ISO 8601 in UTC: as text it sorts by time


def _event(event: FinetuneEvent) -> ProviderEvent:
    """Together gives events no id: they are told apart by what they say."""
    said = "\n".join((event.created_at, event.type, str(event.step), event.message))
    data = {name: getattr(event, name) for name in _EVENT_DATA if getattr(event, name, None) is not None}
    level = (event.level or "info").lower().removeprefix("legacy_i")
    is_error = event.type.lower() in ("job_error", "job_user_error", "billing_limit")
    return ProviderEvent(
        id=hashlib.sha256(said.encode()).hexdigest()[:32],
        message=str(redact(event.message))[:_TEXT_CHARACTERS],
        level="error" if is_error else _LEVELS.get(level, "info"),
        data={"type": event.type, **redact(data)},
    )


def _metrics(rows: Sequence[dict[str, float]]) -> list[StepMetrics]:
    """One line a step, in order: training and evaluation may be logged apart."""
    steps: dict[int, dict[str, Any]] = {}
    for row in rows:
        if "train/global_step" in row:
            numbers = {name: value for name, value in row.items() if math.isfinite(value)}
            steps.setdefault(int(row["train/global_step"]), {}).update(numbers)
    return [
        StepMetrics(
            step=step,
            epoch=row.get("train/epoch"),
            training_loss=row.get("train/loss"),
            validation_loss=row.get("eval/loss"),
            learning_rate=row.get("train/learning_rate"),
        )
        for step, row in sorted(steps.items())
    ]
