"""Whatever happens to a run at whatever step, it ends as if nothing had; what did is printed."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from modal.exception import InputCancellation

from modal_app import loop, remote, run
from shared.training.spec import RunResult, RunState, Ticket, TrainerExit
from tests.conftest import Figure
from tests.modal_app import trainers
from tests.modal_app.endpoint import Endpoint, Mood
from tests.modal_app.test_remote import work_for
from tests.modal_app.trainers import Trainer, until

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerState

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
STEPS, SAVE_STEPS = 100, 7
STOPS = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
STOPS_A_RUN = 3
OUTAGES: list[Mood] = ["well", "away", "deaf", "cutting", "hanging"]
EXITS = {
    signal.SIGKILL: -signal.SIGKILL,
    signal.SIGTERM: TrainerExit.INTERRUPTED,
    signal.SIGINT: TrainerExit.INTERRUPTED,
}


@dataclass
class Story:
    """What was done to a run."""

    stops: list[str] = field(default_factory=list)
    lost_steps: list[int] = field(default_factory=list)

    def told(self, callback: Endpoint) -> str:
        counts = f"{callback.posts} posts, {len(callback.stored)} reports stored once"
        return f"{', '.join(self.stops)}; lost steps {self.lost_steps} of {STEPS}; {counts}"


def new(new_run: NewRun, **where: Any) -> Path:
    """14 rows in batches of 4: the last batch of each of the 25 epochs is smaller."""
    return new_run(trainers.facts(14), batch_size=4, epochs=STEPS // 4, save_steps=SAVE_STEPS, **where)


@pytest.fixture(scope="module")
def undisturbed(start: Start, new_run: NewRun) -> Path:
    run_dir = new(new_run)
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    return run_dir


def assert_equal(run_dir: Path, undisturbed: Path) -> None:
    """To the bit: the same float operations were done in the same order."""
    found, expected = trainers.result(run_dir), trainers.result(undisturbed)
    assert trainers.weights(run_dir) == trainers.weights(undisturbed)
    assert found.training_loss == expected.training_loss
    assert found.trained_tokens == expected.trained_tokens, "tokens are billed once"
    assert found.metrics == expected.metrics


def assert_told_once(run_dir: Path, callback: Endpoint) -> None:
    """Every report lies in the directory; the other side has each once, in order, and skips progress only."""
    made = trainers.reports(run_dir)
    assert [report.seq for report in made] == list(range(1, len(made) + 1))
    seqs = [report.seq for report in callback.stored]
    assert seqs == sorted(set(seqs))
    by_seq = {report.seq: report for report in made}
    assert all(by_seq[report.seq] == report for report in callback.stored)
    assert [r for r in callback.stored if r.kind != "progress"] == [r for r in made if r.kind != "progress"]


def sealed_step(run_dir: Path) -> int:
    """The newest checkpoint that is whole; 0: none."""
    sealed = run_dir.glob("checkpoints/*/manifest.json")
    return max((int(path.parent.name.rpartition("-")[2]) for path in sealed), default=0)


def train_and_count(run_dir: str) -> None:
    """The trainer; each step, as it ends, is a line in the file `steps` of its directory."""
    make = loop.training_callback

    def counted(*given: Any, **named: Any) -> TrainerCallback:
        watch = make(*given, **named)
        at_end = watch.on_step_end

        def on_step_end(args: Any, state: TrainerState, control: Any, **rest: Any) -> None:
            with Path(run_dir, "steps").open("a") as steps:
                steps.write(f"{state.global_step}\n")
            at_end(args, state, control, **rest)

        watch.on_step_end = on_step_end  # type: ignore[method-assign]  # on this one object
        return watch

    loop.training_callback = counted
    run.main([run_dir])


@pytest.fixture(scope="module")
def start_counted(libraries: ForkServerContext) -> Start:
    def start(run_dir: Path) -> Trainer:
        process = libraries.Process(target=train_and_count, args=(str(run_dir),))
        process.start()
        return Trainer(run_dir, process)

    return start


def reached_step(run_dir: Path) -> int:
    """The last step that the latest trainer ended; 0: none."""
    counted = run_dir / "steps"
    lines = counted.read_text().split() if counted.exists() else []
    return int(lines[-1]) if lines else 0


def resumed_from(run_dir: Path) -> int:
    """What the latest trainer said; 0: it began at the beginning."""
    told = [report for report in trainers.reports(run_dir) if report.kind == "event"][-1]
    return int(told.data.get("step", 0))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_disturbed_run_ends_as_the_undisturbed_one(
    start_counted: Start, new_run: NewRun, callback: Endpoint, undisturbed: Path, seed: int, figure: Figure
) -> None:
    random = Random(seed)
    run_dir, story = new(new_run, callback_url=callback.url), Story()
    stops = random.sample(STOPS, STOPS_A_RUN)
    at_steps = sorted(random.sample(range(1, STEPS * 9 // 10), STOPS_A_RUN))
    for stop, step in zip(stops, at_steps, strict=True):
        trainer = start_counted(run_dir)
        claims = callback.kinds.count("claim")
        if callback.mood != "well":
            time.sleep(random.uniform(0, 0.5))  # an outage that began before the last stop goes on
            callback.mood = "well"
        until(lambda claims=claims: callback.kinds.count("claim") > claims)
        callback.mood = random.choice(OUTAGES)
        until(lambda step=step: reached_step(run_dir) >= step)
        trainer.signal(stop)
        assert trainer.wait_for_code() == EXITS[stop]
        assert not (run_dir / "artifact").exists()
        reached, kept = reached_step(run_dir), sealed_step(run_dir)
        story.stops.append(f"{stop.name} at {reached} ({callback.mood})")
        story.lost_steps.append(reached - kept)
        assert reached - kept <= (SAVE_STEPS if stop == signal.SIGKILL else 0), story

    callback.mood = "well"
    assert start_counted(run_dir).wait() == TrainerExit.COMPLETED
    assert_equal(run_dir, undisturbed)
    assert_told_once(run_dir, callback)
    figure(f"seed {seed}: {story.told(callback)}")


def test_a_cancelled_run_stays_cancelled_and_could_go_on(
    start_counted: Start, new_run: NewRun, callback: Endpoint, undisturbed: Path
) -> None:
    run_dir = new(new_run, callback_url=callback.url)
    trainer = start_counted(run_dir)
    trainer.wait_for_checkpoint()
    callback.cancel_requested = True
    assert trainer.wait() == TrainerExit.CANCELLED
    kept = sealed_step(run_dir)
    assert kept == reached_step(run_dir), "the step where it stopped is saved"
    assert kept > 0

    assert start_counted(run_dir).wait() == TrainerExit.CANCELLED
    assert sealed_step(run_dir) == kept
    assert trainers.result(run_dir).state == RunState.CANCELLED

    callback.cancel_requested = False
    assert start_counted(run_dir).wait() == TrainerExit.COMPLETED
    assert resumed_from(run_dir) == kept
    assert_equal(run_dir, undisturbed)
    assert_told_once(run_dir, callback)


def as_modal_calls_it(ticket: dict[str, str], data_dir: Path, answer: Path) -> None:
    """As modal 1.6.4's `call_function` does: its handler of USR1 raises in the main thread."""

    def cancel_input(*_: object) -> None:
        raise InputCancellation("Input was cancelled by user")

    signal.signal(signal.SIGUSR1, cancel_input)
    try:
        result = remote.train_remote(Ticket.model_validate(ticket), data_dir, provider_job_id="fc-1")
    except InputCancellation:
        sys.exit(99)
    assert signal.getsignal(signal.SIGUSR1) is cancel_input, "Modal's own handler is back"
    answer.write_text(json.dumps(result))


def test_modals_cancel_saves_before_it_ends(
    libraries: ForkServerContext, callback: Endpoint, data_dir: Path, tmp_path: Path
) -> None:
    ticket = work_for(callback, data_dir, trainers.facts(14), batch_size=4, epochs=50, save_steps=SAVE_STEPS)
    answer = tmp_path / "answer"
    process = libraries.Process(target=as_modal_calls_it, args=(ticket.for_wire(), data_dir, answer))
    process.start()
    until(lambda: "event" in callback.kinds)
    (run_dir,) = [
        path.parent
        for path in data_dir.glob("runs/*/spec.json")
        if trainers.spec(path.parent).job_id == ticket.job_id
    ]
    trainer = Trainer(run_dir, process)
    trainer.wait_for_checkpoint()
    trainer.signal(signal.SIGUSR1)
    assert trainer.wait() == TrainerExit.COMPLETED  # the call returned
    result = RunResult.model_validate_json(answer.read_text())
    assert result.state == RunState.CANCELLED, "what it returned cannot be taken for success"
    assert result.artifact_path is None
    said = [report.progress.step or 0 for report in callback.stored if report.progress]
    assert sealed_step(run_dir) == said[-1] > 0
    assert callback.stored[-1].result == result
