"""What Together knows and decides in the fake: files, fine-tuning jobs, their events, metrics and models.

After the types of the together SDK 3.1.1 and docs.together.ai, read 2026-11. What is not documented is
chosen to be hard on the caller: cancelling a job that has ended or is being cancelled is a 400.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from shared.tokens import count_tokens

STEPS = ("pending", "queued", "running", "compressing", "uploading", "completed")
ENDED = frozenset({"completed", "cancelled", "error", "user_error"})
MODELS = ("Qwen/Qwen3-8B", "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference")
PROJECT = {"id": "proj_0123", "name": "Support", "slug": "acme-support"}
NANO_DOLLARS_A_TOKEN = 480  # 0.48 USD a million
TOTAL_STEPS = 12
_SUFFIX_CHARACTERS = 40
_EVENT_TYPES = {
    "pending": "job_pending",
    "queued": "job_start",
    "running": "training_start",
    "compressing": "model_compressing",
    "uploading": "model_uploading",
    "cancel_requested": "cancel_requested",
    "cancelled": "job_stopped",
    "completed": "job_complete",
    "error": "job_error",
    "user_error": "job_error",
}


class Refused(Exception):
    """The vendor says no, in its own shape."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass
class Job:
    """A fine-tuning job, and what the API does not show of it."""

    body: dict[str, Any]
    asked: dict[str, Any]
    visible_at: float
    file_tokens: int  # one epoch
    events: list[dict[str, Any]] = field(default_factory=list)
    steps_done: int = 0
    is_cancelling: bool = False  # the next look at it is the last that says so


@dataclass
class Vendor:
    """All state of the fake. Times are seconds since the epoch."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)  # sha256 -> the file that has it
    hidden_files: dict[str, float] = field(default_factory=dict)  # until when
    jobs: dict[str, Job] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)  # object id -> name

    # Files

    def reserve_file(self, name: str, checksum: str, file_type: str, *, hide_seconds: float = 0) -> str:
        """The id of a file whose bytes are to come. Raises KeyError with the id of an equal one."""
        if checksum in self.checksums:
            raise KeyError(self.checksums[checksum])
        file_id = f"file-{uuid4()}"
        self.files[file_id] = {
            "id": file_id,
            "bytes": 0,
            "created_at": int(time.time()),
            "filename": name,
            "FileType": file_type,
            "object": "file",
            "purpose": "fine-tune",
            "processing_status": "PENDING",
        }
        self.hidden_files[file_id] = time.time() + hide_seconds
        self.checksums[checksum] = file_id
        return file_id

    def fill_file(self, file_id: str, content: bytes) -> None:
        self.contents[file_id] = content
        self.files[file_id]["bytes"] = len(content)

    def preprocess(self, file_id: str) -> dict[str, Any]:
        self.file(file_id)["processing_status"] = "QUEUED"
        return self.file(file_id)

    def file(self, file_id: str) -> dict[str, Any]:
        if file_id not in self.files:
            raise Refused(404, f"File {file_id} not found", "not_found")
        return self.files[file_id]

    def delete_file(self, file_id: str) -> None:
        self.file(file_id)
        del self.files[file_id]
        self.checksums = {sha: owner for sha, owner in self.checksums.items() if owner != file_id}

    # Jobs

    def create(self, asked: dict[str, Any], *, hide_seconds: float = 0) -> Job:
        file_id, model, suffix = asked.get("training_file"), asked.get("model"), asked.get("suffix") or ""
        method = asked.get("training_method", {"method": "sft"})["method"]
        if model not in MODELS:
            raise Refused(404, f"Model {model} is not available for fine-tuning", "model_not_available")
        if len(suffix) > _SUFFIX_CHARACTERS:
            raise Refused(400, f"suffix has more than {_SUFFIX_CHARACTERS} characters", "invalid_suffix")
        if file_id not in self.contents:
            raise Refused(400, f"training file {file_id} does not exist", "invalid_file")
        tokens = _file_tokens(self.contents[file_id], "messages" if method == "sft" else "preferred_output")
        now = _now()
        ref = f"ft-{uuid4()}"
        body = {
            "id": ref,
            "status": "pending",
            "created_at": now,
            "updated_at": now,
            "user_id": "user_0123",
            "suffix": suffix,
            "total_price": tokens * asked["n_epochs"] * NANO_DOLLARS_A_TOKEN,
            "token_count": 0,
            "model_output_name": f"acme/{model.split('/')[1]}-{suffix}-{uuid4().hex[:8]}",
            **{name: asked.get(name) for name in ("model", "training_file", "n_epochs", "training_method")},
            **{name: asked.get(name) for name in ("training_type", "learning_rate", "n_checkpoints")},
        }
        job = self.jobs[ref] = Job(body, asked, time.time() + hide_seconds, tokens)
        self._say(job, "The job was accepted")
        return job

    def job(self, ref: str) -> Job:
        if ref not in self.jobs:
            raise Refused(404, f"Fine-tuning job {ref} not found", "not_found")
        return self.jobs[ref]

    def look(self, ref: str) -> dict[str, Any]:
        """The job as it is told; one that is being cancelled is cancelled afterwards."""
        job = self.job(ref)
        body = dict(job.body)
        if job.is_cancelling:
            job.is_cancelling = False
            self.set_status(ref, "cancelled")
        return body

    def cancel(self, ref: str) -> Job:
        job = self.job(ref)
        if job.body["status"] in ENDED or job.is_cancelling:
            raise Refused(400, f"Job {ref} is {job.body['status']} and cannot be cancelled", "invalid_state")
        self.set_status(ref, "cancel_requested")
        job.is_cancelling = True
        return job

    def advance(self, ref: str) -> str:
        """One state further; the new state."""
        status = str(self.job(ref).body["status"])
        if status in STEPS[:-1]:
            self.set_status(ref, STEPS[STEPS.index(status) + 1])
        return str(self.job(ref).body["status"])

    def set_status(self, ref: str, word: str) -> None:
        job = self.job(ref)
        job.body |= {"status": word, "updated_at": _now()}
        if word == "running":
            job.steps_done = 3
        elif word == "completed":
            self._complete(job)
        self._say(job, "Loss is not a number" if word in ("error", "user_error") else f"The job is {word}")

    def metrics(self, job: Job) -> list[dict[str, float]]:
        """Training is logged at each step; evaluation in a row of its own, at each third."""
        rows: list[dict[str, float]] = []
        for step in range(1, job.steps_done + 1):
            epoch = job.body["n_epochs"] * step / TOTAL_STEPS
            at = {"train/global_step": float(step), "train/epoch": epoch}
            rows.append({**at, "train/loss": 2.0 / step, "train/learning_rate": 1e-5})
            if step % 3 == 0:
                rows.append({**at, "eval/loss": 2.1 / step})
        return rows

    def _complete(self, job: Job) -> None:
        model_id = f"ml_{uuid4().hex[:12]}"
        self.models[model_id] = job.body["model_output_name"]
        job.steps_done = TOTAL_STEPS
        job.body |= {
            "token_count": job.file_tokens * job.body["n_epochs"],
            "epochs_completed": job.body["n_epochs"],
            "model_object_id": model_id,
        }
        self._say(job, "Checkpoint saved", type="checkpoint_save", step=12, checkpoint_path="s3://ckpt/12")

    def _say(self, job: Job, message: str, **more: Any) -> None:
        status = job.body["status"]
        event = {
            "object": "fine-tune-event",
            "created_at": _now(),
            "level": "error" if status in ("error", "user_error") else "info",
            "message": message,
            "type": _EVENT_TYPES.get(status, "warning"),
            **({"total_steps": TOTAL_STEPS} if status == "running" else {}),
        }
        job.events.append(event | more)


def limits(model: str) -> dict[str, Any]:
    if model not in MODELS:
        raise Refused(404, f"Model {model} is not available for fine-tuning", "model_not_available")
    batch = {"max_batch_size": 64, "max_batch_size_dpo": 32, "min_batch_size": 8}
    return {
        "model_name": model,
        "default_gradient_accumulation_steps": 1,
        "lora_training": {**batch, "max_rank": 64, "default_rank": 16, "target_modules": ["q_proj"]},
        "full_training": batch,
        "supports_full_training": True,
        "max_learning_rate": 1.0,
        "min_learning_rate": 1e-8,
        "max_num_checkpoints": 10,
        "max_num_epochs": 20,
        "max_num_evals": 100,
        "max_seq_length_sft": 32_768,
        "max_seq_length_dpo": 16_384,
        "min_max_seq_length": 1024,
        "merge_output_lora": True,
        "supports_reasoning": False,
        "supports_tools": True,
        "supports_vision": False,
    }


def _file_tokens(content: bytes, column: str) -> int:
    """Tokens of every message of the rows. Raises Refused for rows of another kind than `column` says."""
    tokens = 0
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            raise Refused(400, f"Line {number} is no JSON", "invalid_file") from None
        if column not in row:
            raise Refused(400, f"Line {number} has no {column!r}", "invalid_file")
        said = row["messages"] if column == "messages" else [*row["input"]["messages"], *row[column]]
        tokens += sum(count_tokens(message["content"]) for message in said)
    return tokens


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
