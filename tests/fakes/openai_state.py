"""What OpenAI knows and decides in the fake: files, fine-tuning jobs, their events and models.

After OpenAI's published reference of files and fine-tuning, read 2026-11-20. `trained_tokens` is what
would be billed: the tokens of every message of the training file, by `count_tokens`, times the epochs.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from shared.tokens import count_tokens as o200k_tokens

STEPS = ("validating_files", "queued", "running", "succeeded")
ENDED = frozenset({"succeeded", "failed", "cancelled"})
MODELS = {  # base models, and the day on which each is shut down
    "gpt-4.1-2025-04-14": "2027-01-14",
    "gpt-4.1-mini-2025-04-14": "2027-01-14",
    "gpt-4o-mini-2024-07-18": "2027-01-14",
    "gpt-4o-2024-08-06": "2027-01-14",
}
_LEAST_EXAMPLES = 10
_MOST_METRIC_EVENTS = 50
_FIELDS = ("n_epochs", "batch_size", "learning_rate_multiplier")


class Refused(Exception):
    """The vendor says no, in its own shape."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param


@dataclass
class Job:
    """A fine-tuning job, and what the API does not show of it."""

    body: dict[str, Any]
    suffix: str
    visible_at: float
    total_steps: int = 0
    file_tokens: int = 0  # one epoch
    events: list[dict[str, Any]] = field(default_factory=list)  # the oldest first


@dataclass
class Vendor:
    """All state of the fake. Times are seconds since the epoch, as the clock of this machine has them."""

    count_tokens: Callable[[str], int] = o200k_tokens
    blocked: bool = False  # the organisation may not train
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    hidden_files: dict[str, float] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # tuned model: its job
    on_end: Callable[[str, str], None] = lambda ref, status: None

    def add_file(self, name: str, content: bytes, purpose: str, *, hide_seconds: float = 0) -> dict[str, Any]:
        file = {
            "id": f"file-{uuid4().hex[:22]}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self.files[file["id"]] = file
        self.contents[file["id"]] = content
        self.hidden_files[file["id"]] = time.time() + hide_seconds
        return file

    def create(self, asked: dict[str, Any], *, hide_seconds: float = 0) -> Job:
        """A new job. Raises Refused as the vendor would."""
        if self.blocked:
            message = "Creating fine-tuning jobs is not available to your organization."
            raise Refused(403, message, "training_not_available")
        method = _checked(asked, self.files)
        kind = method["type"]
        given = (method.get(kind) or {}).get("hyperparameters") or {}
        ref = f"ftjob-{uuid4().hex[:22]}"
        body = {
            "id": ref,
            "object": "fine_tuning.job",
            "model": asked["model"],
            "created_at": int(time.time()),
            "finished_at": None,
            "fine_tuned_model": None,
            "organization_id": "org-fake",
            "result_files": [],
            "status": STEPS[0],
            "validation_file": None,
            "training_file": asked["training_file"],
            "hyperparameters": {name: given.get(name, "auto") for name in _FIELDS},
            "trained_tokens": None,
            "error": None,
            "seed": asked.get("seed") or 42,
            "metadata": asked.get("metadata"),
            "integrations": [],
            "estimated_finish": None,
            "method": {"type": kind, kind: {"hyperparameters": given}},
        }
        job = Job(body, asked.get("suffix") or "", time.time() + hide_seconds)
        self.jobs[ref] = job
        self._say(job, f"Created fine-tuning job: {ref}")
        return job

    def job(self, ref: str) -> Job:
        if ref not in self.jobs:
            raise Refused(404, f"Could not find fine tune: {ref}", "fine_tune_not_found")
        return self.jobs[ref]

    def visible(self, metadata: dict[str, str]) -> list[dict[str, Any]]:
        """Jobs that a list shows now, the newest first."""
        now = time.time()
        return [
            job.body
            for job in reversed(list(self.jobs.values()))
            if job.visible_at <= now and metadata.items() <= (job.body["metadata"] or {}).items()
        ]

    def cancel(self, ref: str) -> Job:
        job = self.job(ref)
        if job.body["status"] in ENDED:
            raise Refused(400, f"Job {ref} is already {job.body['status']}.", "invalid_state")
        self._end(job, "cancelled")
        return job

    def advance(self, ref: str) -> str:
        """The job is one state further; a bad training file is found out on the way."""
        job = self.jobs[ref]
        if job.body["status"] in ENDED:
            return str(job.body["status"])
        word = STEPS[STEPS.index(job.body["status"]) + 1]
        self.set_status(ref, word)
        return str(job.body["status"])

    def set_status(self, ref: str, word: str) -> None:
        """The job says this, with all that belongs to it. A word that no vendor knows is fine too."""
        job = self.jobs[ref]
        if word == "queued" and (wrong := self._wrong_with_file(job)):
            return self._end(job, "failed", wrong)
        if word in ("running", "succeeded"):
            self._plan(job)
        if word == "running":
            self._say(job, "Fine-tuning job started")
            self.train(ref, 1)
        if word == "succeeded":
            self.train(ref, job.total_steps)
            self._deliver(job)
        if word in ENDED:
            error = {"code": "training_failed", "message": "The job failed.", "param": None}
            return self._end(job, word, error if word == "failed" else None)
        job.body["status"] = word

    def tell(self, ref: str, message: str) -> None:
        """One more message among the events."""
        self._say(self.jobs[ref], message)

    def train(self, ref: str, step_count: int) -> None:
        """So many more optimiser steps, each (of at most 50) with an event of metrics."""
        job = self.jobs[ref]
        done = max((event["data"].get("step", 0) for event in job.events), default=0)
        stride = max(1, job.total_steps // _MOST_METRIC_EVENTS)
        for step in range(done + 1, min(done + step_count, job.total_steps) + 1):
            if step % stride and step != job.total_steps:
                continue
            data = {"step": step, "total_steps": job.total_steps, "train_loss": loss_at(step)}
            message = f"Step {step}/{job.total_steps}: training loss={loss_at(step):.2f}"
            self._say(job, message, data=data, type="metrics")

    def checkpoints(self, job: Job) -> list[dict[str, Any]]:
        """The newest first: one, of the last step, when the job has succeeded."""
        if job.body["status"] != "succeeded":
            return []
        return [
            {
                "id": f"ftckpt_{job.body['id']}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": job.body["finished_at"],
                "fine_tuned_model_checkpoint": job.body["fine_tuned_model"],
                "fine_tuning_job_id": job.body["id"],
                "step_number": job.total_steps,
                "metrics": {"step": job.total_steps, "train_loss": loss_at(job.total_steps)},
            }
        ]

    def _plan(self, job: Job) -> None:
        if job.total_steps:
            return
        settings = job.body["hyperparameters"]
        rows = _rows(self.contents[job.body["training_file"]])
        settings["n_epochs"] = 3 if settings["n_epochs"] == "auto" else settings["n_epochs"]
        if settings["batch_size"] == "auto":
            settings["batch_size"] = max(1, len(rows) // 500)
        if settings["learning_rate_multiplier"] == "auto":
            settings["learning_rate_multiplier"] = 1.8
        job.total_steps = settings["n_epochs"] * -(-len(rows) // settings["batch_size"])
        job.file_tokens = sum(self.count_tokens(text) for row in rows for text in _texts(row))

    def _deliver(self, job: Job) -> None:
        ref, body = job.body["id"], job.body
        body["trained_tokens"] = job.file_tokens * body["hyperparameters"]["n_epochs"]
        body["fine_tuned_model"] = f"ft:{body['model']}:fake-org:{job.suffix}:{ref[-8:]}"
        self.models[body["fine_tuned_model"]] = ref
        lines = ["step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"]
        lines += [f"{step},{loss_at(step):.5f},0.5,," for step in range(1, job.total_steps + 1)]
        csv = base64.b64encode("\n".join(lines).encode())  # so the vendor sends it
        body["result_files"] = [self.add_file("step_metrics.csv", csv, "fine-tune-results")["id"]]

    def _end(self, job: Job, status: str, error: dict[str, Any] | None = None) -> None:
        job.body.update(status=status, finished_at=int(time.time()), error=error)
        level = "error" if error else "info"
        self._say(job, error["message"] if error else f"The job has {status}", level=level)
        self.on_end(job.body["id"], status)

    def _say(
        self,
        job: Job,
        message: str,
        *,
        level: str = "info",
        data: dict[str, Any] | None = None,
        type: str = "message",
    ) -> None:
        job.events.append(
            {
                "id": f"ftevent-{uuid4().hex[:22]}",
                "object": "fine_tuning.job.event",
                "created_at": int(time.time()),
                "level": level,
                "message": message,
                "type": type,
                "data": data or {},
            }
        )

    def _wrong_with_file(self, job: Job) -> dict[str, Any] | None:
        content = self.contents.get(job.body["training_file"], b"")
        keys = {"input", "preferred_output", "non_preferred_output"}
        if job.body["method"]["type"] != "dpo":
            keys = {"messages"}
        lines = content.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                good = keys <= json.loads(line).keys() and all(_texts(json.loads(line)))
            except (ValueError, AttributeError, KeyError, TypeError):
                good = False
            if not good:
                message = f"Invalid file format. Line {number} is no example of this method."
                return {"code": "invalid_training_file", "message": message, "param": "training_file"}
        if len(lines) < _LEAST_EXAMPLES:
            message = f"Training file has {len(lines)} example(s), but must have at least {_LEAST_EXAMPLES}."
            return {"code": "invalid_n_examples", "message": message, "param": "training_file"}
        return None


def loss_at(step: int) -> float:
    """The training loss after this step, the same in events, checkpoints and the result file."""
    return round(0.1 + 2 / step, 5)


def _rows(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def _texts(row: dict[str, Any]) -> list[str]:
    if "messages" in row:
        return [message["content"] for message in row["messages"]]
    said = row["input"]["messages"] + row["preferred_output"] + row["non_preferred_output"]
    return [message["content"] for message in said]


def _checked(asked: dict[str, Any], files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The method that was asked for. Raises Refused for what the published schema forbids."""
    method: dict[str, Any] = asked.get("method") or {"type": "supervised"}
    if not isinstance(asked.get("model"), str) or not isinstance(asked.get("training_file"), str):
        raise Refused(400, "Missing required parameter.", "missing_required_parameter")
    if method.get("type") not in ("supervised", "dpo"):
        raise Refused(400, f"Invalid value: {method.get('type')!r}.", "invalid_value", "method.type")
    if len(asked.get("suffix") or "") > 64:
        raise Refused(400, "'suffix' is longer than 64 characters.", "invalid_suffix", "suffix")
    metadata = asked.get("metadata") or {}
    if len(metadata) > 16 or any(len(key) > 64 or len(metadata[key]) > 512 for key in metadata):
        raise Refused(400, "Invalid 'metadata'.", "invalid_metadata", "metadata")
    if asked["model"] not in MODELS:
        message = f"Model {asked['model']} is not available for fine-tuning or does not exist."
        raise Refused(400, message, "model_not_available", "model")
    file = files.get(asked["training_file"])
    if file is None or file["purpose"] != "fine-tune":
        raise Refused(400, "invalid training_file", "invalid_training_file", "training_file")
    return method
