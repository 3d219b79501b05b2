"""What is told of a job, to webhooks and on the streams of job-events: the same words and the same data."""

from __future__ import annotations

from typing import Any, Literal, get_args

from shared.db import Row

EventType = Literal[
    "finetune_job_started",  # once, when a trainer has begun
    "finetune_job_progress",
    "finetune_job_completed",
    "finetune_job_failed",
    "finetune_job_cancelled",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
END_OF: dict[str, EventType] = {
    "completed": "finetune_job_completed",
    "failed": "finetune_job_failed",
    "cancelled": "finetune_job_cancelled",
}


def event_data(job: Row) -> dict[str, Any]:
    """The `data` of an event, from a row of training_jobs. private.job_event says the same in SQL."""
    error = job["error"]
    return {
        "jobId": job["id"],
        "projectId": job["project_id"],
        "datasetId": job["dataset_id"],
        "status": job["status"],
        "version": job["version"],
        "progressPercent": job["progress_percent"],
        "currentStep": job["current_step"][:200],
        "provider": job["provider"],
        "baseModel": job["base_model"][:200],
        "modelName": job["model_name"],
        "modelId": job["model_id"],
        "costUsd": job["cost_usd"],
        "error": error
        and {"code": (error.get("code") or "")[:100], "message": (error.get("message") or "")[:1000]},
    }
