"""The trainer process: `python -m modal_app.run RUN_DIR`.

One run, from top to bottom: claim the job, read the rows, load the model, train, save, say how it ended.
The exit code is a `TrainerExit`; only 0 is success.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from modal_app.base import needs_network
from modal_app.session import parent, storing
from modal_app.session.delivery import ClaimLost, Refused, Unreachable
from modal_app.session.directory import DirectoryInUse, RunDirectory
from modal_app.session.failures import RunFailed, explain
from modal_app.session.reporter import Reporter
from modal_app.session.stop import Stopped, StopReason, StopSignal
from modal_app.task import Task
from shared import log as logs
from shared.training.catalog import TINY
from shared.training.spec import RunError, RunResult, RunSpec, RunState, RunStatus, TrainerExit

log = logs.logger("trainer")

_EXITS = {
    RunState.COMPLETED: TrainerExit.COMPLETED,
    RunState.FAILED: TrainerExit.FAILED,
    RunState.CANCELLED: TrainerExit.CANCELLED,
    RunState.INTERRUPTED: TrainerExit.INTERRUPTED,
}


def train(run_dir: Path, *, kept: Callable[[], None] = lambda: None) -> TrainerExit:
    """Trains what the run directory says, or goes on where an earlier process stopped.

    `kept` is called after each checkpoint, and when the model is saved. Raises nothing: every end is a
    status.json and an exit code. Call it from the main thread, where signals can be caught.
    """
    directory = RunDirectory(run_dir, kept=kept)
    try:
        with directory.locked():
            return _train_alone(directory)
    except DirectoryInUse:
        log.warning("directory_in_use", run_dir=str(run_dir))
        return TrainerExit.CLAIM_LOST
    except RunFailed as error:
        log.error("run_not_started", code=error.code, reason=error.message)
        result = RunResult(state=RunState.FAILED, error=explain(error))
        directory.write_status(RunStatus(state=RunState.FAILED, result=result))
        return TrainerExit.FAILED


def _train_alone(directory: RunDirectory) -> TrainerExit:
    spec = directory.spec()
    stop = StopSignal(directory.cancel_file)
    reporter = Reporter(directory, spec, stop)
    with stop.on_signals():
        started = time.monotonic()
        result = _outcome(spec, directory, reporter, stop)
        if result.duration_seconds is None:
            result = result.model_copy(update={"duration_seconds": time.monotonic() - started})
        delivered = reporter.finish(result)
    if result.state == RunState.COMPLETED:
        directory.discard_means()  # only now: until the end is known, they are the way back
    log.info("run_ended", state=result.state, error=result.error and result.error.code, delivered=delivered)
    return TrainerExit.CLAIM_LOST if stop.reason == StopReason.CLAIM_LOST else _EXITS[RunState(result.state)]


def _outcome(spec: RunSpec, directory: RunDirectory, reporter: Reporter, stop: StopSignal) -> RunResult:
    finished = directory.finished_result()  # a claim is a new beginning, and says so in status.json
    try:
        reporter.claim()
        if finished is None:
            trained = directory.trained_result() or _train_claimed(spec, directory, reporter, stop)
            finished = storing.store(trained, directory, spec, reporter, stop)
        reporter.say("Completed", progress_percent=100)
        return finished
    except Stopped as stopped:
        return _stopped(stopped.reason)
    except (ClaimLost, Refused, Unreachable) as trouble:
        if isinstance(trouble, ClaimLost):
            stop.request(StopReason.CLAIM_LOST)
        return not_claimed(trouble)[1]
    except Exception as error:  # whatever a library raises, the job must learn why it ended
        log.exception("run_failed")
        return RunResult(state=RunState.FAILED, error=explain(error))


def _train_claimed(spec: RunSpec, directory: RunDirectory, reporter: Reporter, stop: StopSignal) -> RunResult:
    task = Task(
        spec=spec,
        dataset=directory.dataset(spec.dataset),
        validation=directory.dataset(spec.validation) if spec.validation else None,
        directory=directory,
        reporter=reporter,
        stop=stop,
    )
    parent.bring(spec, directory, reporter, stop)
    _prepare_environment(spec, directory)
    stop.check()
    reporter.say("Loading libraries")
    from modal_app import loop  # imports torch, which must wait until the job is ours

    return loop.run(task)


def _prepare_environment(spec: RunSpec, directory: RunDirectory) -> None:
    """What the libraries read when they are imported."""
    wanted: dict[str, Any] = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not needs_network(directory.base_source(spec)):
        wanted["HF_HUB_OFFLINE"] = "1"
    if spec.root_base_model == TINY:
        wanted["OMP_NUM_THREADS"] = "1"  # its matrices are too small to share out
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    # As many as the run uses: TRL refuses to see several where each has no process of its own.
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(spec.gpu_count))))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(shown.split(",")[: spec.gpu_count])


def not_claimed(trouble: ClaimLost | Refused | Unreachable) -> tuple[TrainerExit, RunResult]:
    """How a trainer ends that did not get the job."""
    if isinstance(trouble, ClaimLost):
        return TrainerExit.CLAIM_LOST, _stopped(StopReason.CLAIM_LOST)
    if isinstance(trouble, Refused):
        error = RunError(code="claim_refused", message=f"report-training does not take a claim: {trouble}")
        return TrainerExit.FAILED, RunResult(state=RunState.FAILED, error=error)
    error = RunError(code="callback_unreachable", message=f"report-training does not answer: {trouble}")
    return TrainerExit.INTERRUPTED, RunResult(state=RunState.INTERRUPTED, error=error)


def _stopped(reason: StopReason) -> RunResult:
    if reason == StopReason.CANCELLED:
        return RunResult(state=RunState.CANCELLED)
    lost = RunError(code="claim_lost", message="Another trainer has this job, or the job has ended.")
    return RunResult(state=RunState.INTERRUPTED, error=lost if reason == StopReason.CLAIM_LOST else None)


def main(arguments: list[str] | None = None) -> NoReturn:
    """The command line. Ends the process."""
    logs.configure()
    parser = argparse.ArgumentParser(prog="python -m modal_app.run", description="Trains one run.")
    parser.add_argument("run_dir", type=Path, help="the run directory, holding spec.json and train.jsonl")
    sys.exit(train(parser.parse_args(arguments).run_dir))


if __name__ == "__main__":
    main()
