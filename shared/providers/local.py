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
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from shared.errors import ProviderRejected, ProviderRunNotFound
from shared.keys.store import OpenedKey
from shared.providers import local_line
from shared.providers.base import KeyFacts, ProviderReport
from shared.providers.local_turn import LIFE, PLACE
from shared.training import estimate
from shared.training.catalog import TINY
from shared.training.config import METHODS
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, Progress, RunError, RunSpec, RunState, RunStatus

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# All that a trainer may know of this process: no key and no secret is among them.
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "HF_HOME", "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES", "FINEFLOW_DATA_DIR",
)  # fmt: skip
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
    late_seconds = 0.0  # a run directory is there or it is not

    # Of this process, whichever object started them. One that has ended is a zombie until asked for.
    _children: ClassVar[set[int]] = set()

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
        return [idempotency_key] if (run_dir / "process.json").exists() or _is_alive(run_dir) else []

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
                if not (run_dir / "process.json").exists() and not _is_alive(run_dir):
                    self._fill(run_dir, spec, dataset, callback)
                    self._spawn(run_dir, spec, _Past())
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

    def _spawn(self, run_dir: Path, spec: RunSpec, past: _Past) -> None:
        """A process of this run waits in the line, at the place that the run had before, if it had one."""
        life = local_line.try_lock(run_dir / "alive.lock")
        if life is None:
            return  # somebody else started one meanwhile
        entry, place = local_line.join(self._line, run_dir.name, past.place)
        try:
            # Far from the numbers that they get in the child, and closed in any other.
            held = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64) for descriptor in (life, place)]
            pid = self._process(run_dir, entry, spec, *held)
            for descriptor in held:
                os.close(descriptor)
        finally:
            os.close(life)
            os.close(place)
        self._children.add(pid)
        identity = {
            "pid": pid,
            "start_ticks": _start_ticks(pid),
            "starts": past.starts + 1,
            "waits": past.waits + 1,
            "place": entry.name,
        }
        _write_atomically(run_dir / "process.json", json.dumps(identity))

    def _process(self, run_dir: Path, entry: Path, spec: RunSpec, life: int, place: int) -> int:
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
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "shared.providers.local_turn", str(run_dir), str(entry)],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, life, LIFE),
                (os.POSIX_SPAWN_DUP2, place, PLACE),
            ],
            setsid=True,
        )

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
        process = _read_process(run_dir)
        entry = self._line / process["place"] if process else None
        if alive and entry is not None and entry.exists():
            return _waiting(local_line.jobs_before(entry), status)
        if alive:
            step = status.progress.current_step if status and status.progress else None
            training = status is not None and status.state == RunState.TRAINING
            return ProviderReport("training" if training else "queued", step)
        if (run_dir / "cancel").exists():
            if entry is not None:
                entry.unlink(missing_ok=True)
            return ProviderReport("cancelled", "Cancelled")
        if process is None or entry is None:
            raise ProviderRunNotFound(f"The run directory {run_dir.name} is gone or was never filled.")
        had_its_turn = not entry.exists()
        past = _Past(process["starts"] - (not had_its_turn), process["waits"], process["place"])
        if past.starts >= _MOST_STARTS or past.waits >= _MOST_WAITS:
            entry.unlink(missing_ok=True)
            return ProviderReport("failed", error=_died(run_dir, process["waits"]))
        spec = RunSpec.model_validate_json((run_dir / "spec.json").read_text())
        self._spawn(run_dir, spec, past)
        if not had_its_turn:
            return _waiting(local_line.jobs_before(entry), status)
        return ProviderReport(
            "queued", "The trainer was stopped from outside; going on from its last checkpoint"
        )


@dataclass(frozen=True)
class _Past:
    """What became of earlier processes of a run."""

    starts: int = 0  # that had their turn
    waits: int = 0  # all of them
    place: str | None = None  # in the line


def _waiting(before: int, status: RunStatus | None) -> ProviderReport:
    """The run waits. What it has done before, if it was interrupted, is not forgotten meanwhile."""
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
    """Whether a process of ours lives, or somebody trains here by hand."""
    return local_line.is_held(run_dir / "alive.lock") or local_line.is_held(run_dir / "run.lock")


def _is_process(process: dict[str, Any]) -> bool:
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


def _read_process(run_dir: Path) -> dict[str, Any] | None:
    try:
        process: dict[str, Any] = json.loads((run_dir / "process.json").read_text())
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
