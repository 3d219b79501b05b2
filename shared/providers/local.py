"""Trains on this machine: each run is a process group of its own with a directory of its own.

The directory is the whole state, so a run survives a restart of the functions server, and whoever
looks next sees how it stands: `spec.json`, `train.jsonl` and `callback.json` go in, `status.json`
comes out, `run.lock` is held while a trainer lives, `process.json` says which process it is.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from shared.errors import ProviderRejected, ProviderRunNotFound
from shared.keys.store import OpenedKey
from shared.providers.base import KeyFacts, ProviderReport
from shared.training import estimate
from shared.training.catalog import TINY
from shared.training.config import METHODS
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunError, RunSpec, RunState, RunStatus

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# All that a trainer may know of this process: no key and no secret is among them.
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "HF_HOME", "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES", "FINEFLOW_DATA_DIR",
)  # fmt: skip
_MOST_STARTS = 3
_START_SECONDS = 20  # a young process may not hold its lock yet
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
    late_seconds = 0.0  # a run directory is there or it is not

    # Of this process, whichever object started them. One that has ended is a zombie until asked for.
    _children: ClassVar[set[int]] = set()

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()

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
        return [idempotency_key] if (run_dir / "process.json").exists() or _lock_is_held(run_dir) else []

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
                if not (run_dir / "process.json").exists() and not _lock_is_held(run_dir):
                    self._fill(run_dir, spec, dataset, callback)
                    self._spawn(run_dir, spec, starts=1)
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

    def _spawn(self, run_dir: Path, spec: RunSpec, *, starts: int) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment |= {
            "FINEFLOW_DATA_DIR": str(self._data_dir),
            "PYTHONPATH": str(PROJECT_ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        if spec.base_model == TINY:
            environment["OMP_NUM_THREADS"] = "1"  # its matrices are too small to share out
        log = run_dir / "trainer.log"
        # Not subprocess: nobody here waits for the trainer, which may outlive this process.
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "modal_app.run", str(run_dir)],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._children.add(pid)
        identity = {
            "pid": pid,
            "start_ticks": _start_ticks(pid),
            "started_at": time.time(),
            "starts": starts,
        }
        _write_atomically(run_dir / "process.json", json.dumps(identity))

    def _collect_ended(self) -> None:
        for pid in tuple(self._children):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid
            if ended:
                self._children.discard(pid)

    def _poll(self, run_dir: Path) -> ProviderReport:
        self._collect_ended()
        alive = _is_alive(run_dir)  # before the status: a trainer writes it last and then ends
        status = _read_status(run_dir)
        if status is not None and status.state in _ENDED:
            return _ended(status)
        if alive:
            step = status.progress.current_step if status and status.progress else None
            training = status is not None and status.state == RunState.TRAINING
            return ProviderReport("training" if training else "queued", step)
        if (run_dir / "cancel").exists():
            return ProviderReport("cancelled", "Cancelled")
        process = _read_process(run_dir)
        if process is None:
            raise ProviderRunNotFound(f"The run directory {run_dir.name} is gone or was never filled.")
        if process["starts"] >= _MOST_STARTS:
            return ProviderReport("failed", error=_died(run_dir, process["starts"]))
        spec = RunSpec.model_validate_json((run_dir / "spec.json").read_text())
        self._spawn(run_dir, spec, starts=process["starts"] + 1)
        return ProviderReport(
            "queued", "The trainer was stopped from outside; going on from its last checkpoint"
        )


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
    process = _read_process(run_dir)
    if process is None or not _is_process(process):
        return
    overdue = time.time() - marker.stat().st_mtime > _CANCEL_SECONDS
    if overdue:
        _signal_group(process["pid"], signal.SIGKILL)
    elif first_time:
        _signal_group(process["pid"], signal.SIGTERM)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return  # it ended meanwhile, which is what was wanted


def _is_alive(run_dir: Path) -> bool:
    if _lock_is_held(run_dir):
        return True
    process = _read_process(run_dir)
    return (
        process is not None and time.time() - process["started_at"] < _START_SECONDS and _is_process(process)
    )


def _lock_is_held(run_dir: Path) -> bool:
    try:
        with (run_dir / "run.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_process(process: dict[str, int]) -> bool:
    """Whether the process lives and is still the same one: numbers are given again."""
    pid = process["pid"]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return process["start_ticks"] is None or process["start_ticks"] == _start_ticks(pid)


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22). None: no /proc here."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(after_name[19])


def _read_process(run_dir: Path) -> dict[str, int] | None:
    try:
        process: dict[str, int] = json.loads((run_dir / "process.json").read_text())
    except FileNotFoundError:
        return None
    return process


def _read_status(run_dir: Path) -> RunStatus | None:
    try:
        return RunStatus.model_validate_json((run_dir / "status.json").read_text())
    except FileNotFoundError:
        return None


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    draft.replace(path)
