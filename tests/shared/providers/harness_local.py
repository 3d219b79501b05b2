"""The local provider: its vendor is a directory, and real trainer processes that nobody answers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar
from uuid import UUID, uuid4

from shared.providers.base import ReportedStatus
from shared.providers.local import LocalProvider
from shared.training.catalog import TINY, resolve
from shared.training.config import TrainingConfig
from shared.training.spec import RunError, RunResult, RunSpec, RunState, RunStatus
from tests.fakes.http import Fault
from tests.shared.providers.harness import CHAT_FILE, NOBODY, Harness, run_spec

OPERATIONS: frozenset[str] = frozenset()  # no wire between it and its runs


class LocalHarness:
    name = "local"
    key = None
    searchable = True
    vendor_statuses = frozenset(RunState)
    # `starting` and `interrupted` say nothing of a trainer that lives: it waits or is started again.
    meanings: ClassVar[dict[str, ReportedStatus]] = {
        "starting": "queued",
        "training": "training",
        "completed": "completed",
        "failed": "failed",
        "cancelled": "cancelled",
        "interrupted": "queued",
    }
    file = CHAT_FILE
    callback = NOBODY

    def __init__(self, data_dir: Path) -> None:
        self.provider = LocalProvider(data_dir)
        self.unknown_ref = str(uuid4())
        self._runs = data_dir / "runs"
        self._line = data_dir / "line"

    def spec(self) -> RunSpec:
        return run_spec(TINY, config=resolve(TrainingConfig(), TINY, "full"))

    def runs(self) -> list[str]:
        started = sorted(self._runs.glob("*/process.json"), key=lambda path: path.stat().st_mtime_ns)
        return [path.parent.name for path in started]

    def add_run(self, idempotency_key: str) -> str:
        raise NotImplementedError("a run directory has the name of its job: there cannot be two")

    def set_status(self, ref: str, word: str) -> None:
        """The trainer has its turn, or is stopped when it must have ended; then what it would have written
        is written."""
        state = RunState(word)
        error = RunError(code="cuda_oom", message="Out of memory.") if word == "failed" else None
        ended = word in ("completed", "failed", "cancelled")
        result = RunResult(state=state, error=error, artifact_path="/models/x") if ended else None
        if ended:
            self._kill(ref)
        else:
            self._give_turn(ref)
        (self._runs / ref / "status.json").write_text(RunStatus(state=state, result=result).model_dump_json())

    def status_of(self, ref: str) -> str:
        return RunStatus.model_validate_json((self._runs / ref / "status.json").read_text()).state

    def disturb(self, operation: str, *faults: Fault) -> None:
        raise NotImplementedError("no wire")

    def refusal(self, status: int, message: str) -> Fault:
        raise NotImplementedError("no wire")

    def calls(self, operation: str) -> int:
        raise NotImplementedError("no wire")

    def close(self) -> None:
        for ref in self.runs():
            self._kill(ref)

    def _give_turn(self, ref: str) -> None:
        """Nobody is before it any more: one run at a time is trained here."""
        for other in self.runs():
            if other != ref:
                self._kill(other)
        until = time.monotonic() + 15
        while list(self._line.glob(f"*-{ref}")):
            assert time.monotonic() < until, "its turn never came"
            time.sleep(0.02)

    def _kill(self, ref: str) -> None:
        process = json.loads((self._runs / str(UUID(ref)) / "process.json").read_text())
        with suppress(ProcessLookupError):
            os.killpg(process["pid"], signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(process["pid"], 0)


@contextmanager
def harness(tmp_path: Path, timeout_seconds: float) -> Iterator[Harness]:
    local = LocalHarness(tmp_path)
    try:
        yield local
    finally:
        local.close()
