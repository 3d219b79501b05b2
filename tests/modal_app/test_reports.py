"""What a trainer tells, whatever the network does; and what it is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from modal_app.session.directory import RunDirectory
from modal_app.session.reporter import Reporter
from modal_app.session.stop import StopSignal
from shared.training.spec import Progress, RunResult, RunState, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.endpoint import Endpoint
from tests.modal_app.trainers import Trainer, until

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
LONG = trainers.facts(40)  # 10 steps an epoch


def test_progress_arrives_while_it_trains(start: Start, new_run: NewRun, callback: Endpoint) -> None:
    run_dir = new_run(LONG, epochs=20, callback_url=callback.url)
    assert start(run_dir).wait(120) == TrainerExit.COMPLETED

    assert callback.kinds[0] == "claim"
    assert callback.kinds[-1] == "result"
    assert callback.tokens == {"Bearer job-token"}
    said = [report.progress for report in callback.stored if report.progress]
    assert [p.progress_percent for p in said] == sorted(p.progress_percent for p in said)
    assert said[-1].progress_percent == 100
    training = [p for p in said if p.current_step.startswith("Training... (")]
    assert len(training) >= 3
    middle = training[1]
    assert middle.step is not None
    assert 0 < middle.step < 200
    assert (middle.total_steps, middle.total_epochs) == (200, 20)
    for number in (middle.training_loss, middle.learning_rate, middle.grad_norm, middle.tokens_per_second):
        assert number is not None
    assert middle.eta_seconds is not None
    assert middle.current_step == f"Training... ({middle.trained_tokens} tokens trained)"


def test_a_step_costs_no_report(new_run: NewRun) -> None:
    """However many steps a second there are, one report a second says how far they are."""
    directory = RunDirectory(new_run(LONG))
    reporter = Reporter(directory, directory.spec(), StopSignal(directory.cancel_file))
    reporter.claim()
    started, steps = time.monotonic(), 0
    while (seconds := time.monotonic() - started) < 2.5:
        steps += 1
        reporter.progress(
            Progress(progress_percent=50, current_step="Training...", step=steps), training=True
        )
    reporter.finish(RunResult(state=RunState.INTERRUPTED))

    made = trainers.reports(directory.path)
    said = [report.progress.step for report in made if report.kind == "progress" and report.progress]
    assert 1 <= len(said) <= seconds + 1
    assert steps > 1_000 * seconds
    last = made[-1].progress
    assert last
    assert last.step == steps, "the end says where it was"


def test_an_outage_loses_and_doubles_nothing(start: Start, new_run: NewRun, callback: Endpoint) -> None:
    too_long = ("What is on the list?", "lists and " * 300)
    run_dir = new_run([*LONG, too_long], epochs=10, max_length=256, callback_url=callback.url)
    trainer = start(run_dir)
    until(lambda: callback.kinds)
    callback.mood = "away"
    until(lambda: any(report.kind == "event" for report in trainers.reports(run_dir)))
    refused = callback.posts
    until(lambda: callback.posts > refused)
    callback.mood = "deaf"  # these are stored, and sent again because nobody said so
    heard = len(callback.stored)
    until(lambda: len(callback.stored) > heard)
    callback.mood = "well"
    assert trainer.wait() == TrainerExit.COMPLETED

    made = trainers.reports(run_dir)
    assert [report.seq for report in made] == list(range(1, len(made) + 1))
    ordered = [report for report in made if report.kind != "progress"]
    assert [report for report in callback.stored if report.kind != "progress"] == ordered
    assert [report.message for report in ordered if report.level == "warning"] == [
        "1 rows are over 256 tokens and were left out: 41."
    ]


def test_an_endpoint_that_stays_away_does_not_stop_the_run(
    start: Start, new_run: NewRun, callback: Endpoint
) -> None:
    run_dir = new_run(trainers.facts(8), epochs=2, callback_url=callback.url)
    trainer = start(run_dir)
    until(lambda: callback.kinds)
    callback.mood = "away"
    assert trainer.wait() == TrainerExit.COMPLETED
    assert "result" not in callback.kinds
    assert trainers.status(run_dir).state == RunState.COMPLETED

    callback.mood = "well"
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    told = [report for report in trainers.reports(run_dir) if report.kind != "progress"]
    assert [report for report in callback.stored if report.kind != "progress"] == told
    assert [report.kind for report in told] == ["claim", "event", "result", "claim", "result"], "trained once"


def test_a_claim_waits_for_the_endpoint(start: Start, new_run: NewRun, callback: Endpoint) -> None:
    callback.mood = "away"
    trainer = start(new_run(trainers.facts(8), epochs=1, callback_url=callback.url))
    until(lambda: callback.posts >= 2)
    assert trainers.status(trainer.run_dir).state == RunState.STARTING
    assert not (trainer.run_dir / "checkpoints").exists()
    callback.mood = "well"
    assert trainer.wait() == TrainerExit.COMPLETED


def test_a_lost_claim_ends_the_run(start: Start, new_run: NewRun, callback: Endpoint) -> None:
    trainer = start(new_run(LONG, epochs=50, callback_url=callback.url))
    until(lambda: "event" in callback.kinds)
    callback.mood = "stolen"
    assert trainer.wait() == TrainerExit.CLAIM_LOST
    assert "result" not in callback.kinds
    assert not (trainer.run_dir / "artifact").exists()


def test_a_cancel_in_the_answer_ends_the_run(start: Start, new_run: NewRun, callback: Endpoint) -> None:
    trainer = start(new_run(LONG, epochs=50, callback_url=callback.url))
    until(lambda: "event" in callback.kinds)
    callback.cancel_requested = True
    assert trainer.wait() == TrainerExit.CANCELLED
    assert callback.stored[-1].kind == "result"
    assert trainers.result(trainer.run_dir).state == RunState.CANCELLED
