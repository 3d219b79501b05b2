"""Says how the run is doing: in the run directory at once, over the network as soon as it can."""

from __future__ import annotations

import threading
import time
from typing import Any, Literal

from modal_app.session.directory import RunDirectory
from modal_app.session.outbox import Outbox
from modal_app.session.stop import StopSignal
from shared.training.spec import Progress, RunResult, RunSpec, RunState, RunStatus, TrainerReport

INTERVAL_SECONDS = 1.0  # between two progress reports; also without news, so that silence means trouble
_TICK_SECONDS = 0.1
_CLAIM_PATIENCE_SECONDS = 300.0
_RESULT_PATIENCE_SECONDS = 10.0
_INTERRUPTED_PATIENCE_SECONDS = 2.0  # who stopped it kills it soon, and it will run again anyway


class Reporter:
    """Numbers the reports and writes them down. A thread turns the latest progress into reports."""

    def __init__(self, directory: RunDirectory, spec: RunSpec, stop: StopSignal) -> None:
        self._directory = directory
        self._outbox = Outbox(directory.callback(), spec, stop)
        self._seq = directory.last_seq()
        self._state = RunState.STARTING
        self._progress = Progress(progress_percent=0, current_step="Starting")
        self._last_said = 0.0  # monotonic seconds
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="reporter", daemon=True)

    def claim(self) -> None:
        """This trainer has the job afterwards, and reports flow. Raises ClaimLost, Stopped or Unreachable.

        What an earlier trainer in this directory could not deliver is sent first. Its progress is not: it is
        old.
        """
        is_first = self._seq == 0
        self._write_status()
        report = self._report("claim", send=False) if is_first else TrainerReport(seq=1, kind="claim")
        stored = self._outbox.claim(report, patience_seconds=_CLAIM_PATIENCE_SECONDS)
        # More than we have written: an earlier trainer of this run wrote into a directory that is lost.
        self._seq = max(self._seq, stored)
        if not is_first:  # the number 1 was stored long ago, but its receipt says what else was
            for kept in self._directory.reports_after(stored):
                if kept.kind != "progress":
                    self._outbox.put(kept)
            self._report("claim")
        self._thread.start()

    def say(self, current_step: str, **numbers: float) -> None:
        """What the run is doing now, in words; numbers that are not given stay."""
        self.progress(self._progress.model_copy(update={"current_step": current_step, **numbers}))

    def progress(self, progress: Progress, *, training: bool = False) -> None:
        """The latest state of the run. Costs no more than an assignment; reports follow in their time."""
        self._progress = progress
        if training and self._state != RunState.TRAINING:
            self._state = RunState.TRAINING
            with self._lock:
                self._write_status()

    def event(
        self, message: str, *, level: Literal["info", "warning", "error"] = "info", **data: Any
    ) -> None:
        """Something happened once and belongs into the history of the job."""
        self._report("event", message=message, level=level, data=data)

    def finish(self, result: RunResult) -> bool:
        """The run has ended so. Whether report-training knows it; status.json does in any case."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._state = RunState(result.state)
        self._report("result", result=result, progress=self._progress)
        interrupted = self._state == RunState.INTERRUPTED
        patience_seconds = _INTERRUPTED_PATIENCE_SECONDS if interrupted else _RESULT_PATIENCE_SECONDS
        return self._outbox.close(within_seconds=patience_seconds)

    def _tick(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            if time.monotonic() - self._last_said >= INTERVAL_SECONDS:
                self._last_said = time.monotonic()
                self._report("progress", progress=self._progress)

    def _report(
        self, kind: Literal["claim", "progress", "event", "result"], *, send: bool = True, **fields: Any
    ) -> TrainerReport:
        with self._lock:
            report = TrainerReport(seq=self._seq + 1, kind=kind, **fields)
            self._directory.append_event(report)
            self._seq = report.seq
            self._write_status(report.result)
            if send:
                self._outbox.put(report)
            return report

    def _write_status(self, result: RunResult | None = None) -> None:
        self._directory.write_status(
            RunStatus(state=self._state, last_seq=self._seq, progress=self._progress, result=result)
        )
