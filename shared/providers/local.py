"""Trains on this machine: each run is a process group of its own with a directory of its own.

The directory is the whole state, so a run survives a restart of the functions server, and whoever
looks next sees how it stands: `spec.json`, `train.jsonl` and `callback.json` go in, `status.json`
comes out, `alive.lock` is held while a trainer lives, `process.json` says which process it is.

A device trains one run at a time. A process is started at once and waits in the line (`local_line`) before it
becomes a trainer, so the next run begins when the one before it ends, whoever else is alive.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import time
from pathlib import Path
from uuid import UUID

from shared.errors import ProviderRejected, ProviderRunNotFound
from shared.keys.store import OpenedKey
from shared.providers import local_line
from shared.providers.base import KeyFacts, ProviderReport
from shared.providers.local_process import Process, collect_ended, is_alive, spawn
from shared.training import estimate
from shared.training.config import METHODS
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, Progress, RunError, RunSpec, RunState, RunStatus

_MOST_STARTS = 3  # of a trainer
_MOST_WAITS = 50  # of a process that did not live until its turn: each stop of the stack ends it
_CANCEL_SECONDS = 30  # then it is killed
_ENDED: dict[RunState, str] = {
    RunState.COMPLETED: "completed",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}


class LocalProvider:
    """Runs `python -m modal_app.run` in `<data dir>/runs/<idempotency key>`."""

    name = "local"
    key = None
    methods = METHODS
    runs_our_trainer = True
    keeps_disk = True
    late_seconds = 0.0  # a run directory is there or it is not

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._line = self._data_dir / "line"

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None = None,
    ) -> str:
        return await asyncio.to_thread(self._start, spec, dataset, idempotency_key, callback)

    async def find(self, idempotency_key: str, *, key: OpenedKey | None = None) -> list[str]:
        run_dir = self._run_dir(idempotency_key)
        return [idempotency_key] if Process.read(run_dir) or is_alive(run_dir) else []

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None = None, cursor: str | None = None
    ) -> ProviderReport:
        return await asyncio.to_thread(self._poll, self._run_dir(provider_job_id))

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None = None) -> None:
        await asyncio.to_thread(_cancel, self._run_dir(provider_job_id))

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None = None) -> None:
        raise ProviderRejected("Models trained here are files of yours.", code="model_not_at_provider")

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        raise ProviderRejected("Training on this machine needs no key.", code="no_key_needed")

    def estimate(
        self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE
    ) -> estimate.Estimate:
        return estimate.on_this_machine(spec, dataset, known)

    def _run_dir(self, key: str) -> Path:
        return self._data_dir / "runs" / str(UUID(key))  # a UUID cannot climb out of the directory

    def _start(self, spec: RunSpec, dataset: TrainingFile, key: str, callback: Callback) -> str:
        run_dir = self._run_dir(key)
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            with (run_dir / "start.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # starts of one job follow each other, in any process
                if Process.read(run_dir) is None and not is_alive(run_dir):
                    self._fill(run_dir, spec, dataset, callback)
                    spawn(run_dir, spec, line=self._line)
        except OSError as error:
            raise ProviderRejected(
                f"The run cannot be started on this machine: {error.strerror}. Check {run_dir}.",
                code="local_start_failed",
            ) from error
        return key

    def _fill(self, run_dir: Path, spec: RunSpec, dataset: TrainingFile, callback: Callback) -> None:
        (run_dir / spec.dataset.name).write_bytes(dataset.content)
        if spec.validation and dataset.validation:
            (run_dir / spec.validation.name).write_bytes(dataset.validation.content)
        (run_dir / "spec.json").write_text(spec.model_dump_json(indent=2))
        secret = run_dir / "callback.json"
        secret.touch(mode=0o600)
        secret.write_text(json.dumps({"url": callback.url, "token": callback.token.get_secret_value()}))

    def _poll(self, run_dir: Path) -> ProviderReport:
        collect_ended()
        alive = is_alive(run_dir)  # before the status: a trainer writes it last and then ends
        status = _read_status(run_dir)
        if status is not None and status.state in _ENDED:
            return _ended(status)
        process = Process.read(run_dir)
        entry = self._line / process.place if process and process.place else None
        waits = entry is not None and entry.exists()
        if alive and entry is not None and waits:
            return _waiting(entry, status)
        if alive:
            step = status.progress.current_step if status and status.progress else None
            training = status is not None and status.state == RunState.TRAINING
            return ProviderReport("training" if training else "queued", step)
        cancelled = (run_dir / "cancel").exists()
        gave_up = process is not None and (
            process.starts - waits >= _MOST_STARTS or process.waits >= _MOST_WAITS
        )
        if entry is not None and (cancelled or gave_up):
            entry.unlink(missing_ok=True)
        if cancelled:
            return ProviderReport("cancelled", "Cancelled")
        if process is None:
            raise ProviderRunNotFound(f"The run directory {run_dir.name} is gone or was never filled.")
        if gave_up:
            return ProviderReport("failed", error=_died(run_dir, process.waits))
        spec = RunSpec.model_validate_json((run_dir / "spec.json").read_text())
        # Who never had a turn has not failed yet.
        past = process.model_copy(update={"starts": process.starts - waits})
        spawn(run_dir, spec, line=self._line, past=past)
        if entry is not None and waits:
            return _waiting(entry, status)
        return ProviderReport(
            "queued", "The trainer was stopped from outside; going on from its last checkpoint"
        )


def _waiting(entry: Path, status: RunStatus | None) -> ProviderReport:
    """The run waits. What it has done before, if it was interrupted, is not forgotten meanwhile."""
    before = local_line.jobs_before(entry)
    step = f"Waiting for {before} {'job' if before == 1 else 'jobs'} before it" if before else "Starting"
    known = status.progress if status and status.progress else Progress(progress_percent=0, current_step=step)
    return ProviderReport("queued", step, progress=known.model_copy(update={"current_step": step}))


def _ended(status: RunStatus) -> ProviderReport:
    result = status.result
    if status.state == RunState.COMPLETED:
        return ProviderReport("completed", "Completed", result=result, cost_usd=0.0)
    if status.state == RunState.CANCELLED:
        return ProviderReport("cancelled", "Cancelled", result=result)
    error = result.error if result else None
    return ProviderReport(
        "failed",
        error=error or RunError(code="trainer_failed", message="The trainer failed without a reason."),
    )


def _died(run_dir: Path, starts: int) -> RunError:
    return RunError(
        code="trainer_died",
        message=f"The trainer ended {starts} times without a result. Its log is {run_dir / 'trainer.log'}.",
    )


def _cancel(run_dir: Path) -> None:
    marker = run_dir / "cancel"
    if not run_dir.exists():
        raise ProviderRunNotFound(f"The run directory {run_dir.name} is gone.")
    first_time = not marker.exists()
    marker.touch(exist_ok=True)
    process = Process.read(run_dir)
    if process is None or not process.lives():
        return
    overdue = time.time() - marker.stat().st_mtime > _CANCEL_SECONDS
    if overdue:
        process.signal(signal.SIGKILL)
    elif first_time:
        process.signal(signal.SIGTERM)


def _read_status(run_dir: Path) -> RunStatus | None:
    try:
        return RunStatus.model_validate_json((run_dir / "status.json").read_text())
    except FileNotFoundError:
        return None
