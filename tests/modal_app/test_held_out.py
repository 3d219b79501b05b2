"""Rows that are held out: looked at while it trains, and what decides when a run ends and what it keeps."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from modal_app.progress import falls_no_more
from shared.training.config import PREFERENCE
from shared.training.spec import TrainerExit
from tests.modal_app import measures, trainers
from tests.modal_app.trainers import Trainer

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
LEARNED = trainers.facts(12)
OTHERS = trainers.supervised_rows([(f"What of {n}?", f"Nothing of {n}.") for n in range(4)])


def test_the_run_ends_when_others_are_foretold_worse_and_keeps_the_best_weights(
    start: Start, new_run: NewRun, libraries: ForkServerContext
) -> None:
    run_dir = new_run(LEARNED, epochs=50, eval_steps=3, early_stopping_patience=3, validation=OTHERS)
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    result = trainers.result(run_dir)
    assert result.metrics["stopped_early"]
    assert 12 <= result.metrics["steps"] < 150
    said = [report.progress for report in trainers.reports(run_dir) if report.progress]
    assert said[-1].validation_loss is not None
    assert result.metrics["validation_loss"] < said[-1].validation_loss
    found = measures.loss(libraries, run_dir / "artifact", OTHERS)
    assert found == pytest.approx(result.metrics["validation_loss"], abs=1e-4)


def test_a_resumed_run_ends_where_an_undisturbed_one_does(start: Start, new_run: NewRun) -> None:
    config = {"epochs": 50, "eval_steps": 3, "early_stopping_patience": 3, "validation": OTHERS}
    whole, stopped = start(new_run(LEARNED, **config)), start(new_run(LEARNED, **config))
    stopped.wait_for_checkpoint()
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == TrainerExit.INTERRUPTED
    assert start(stopped.run_dir).wait() == whole.wait() == TrainerExit.COMPLETED
    expected, found = trainers.result(whole.run_dir), trainers.result(stopped.run_dir)
    assert found.metrics == expected.metrics
    assert trainers.weights(stopped.run_dir) == trainers.weights(whole.run_dir)


@pytest.mark.parametrize(
    ("losses", "patience", "ends"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0], 1, False),
        ([3.0, 3.0], 1, True),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.1], 2, True),
        ([3.0, 2.0, 2.5, 1.9], 2, False),
        ([1.0, 2.0, 3.0], 0, False),
    ],
)
def test_when_patience_ends(losses: list[float], patience: int, ends: bool) -> None:
    history = [logs for loss in losses for logs in ({"loss": 1.0}, {"eval_loss": loss})]
    assert falls_no_more(history, patience) == ends


@pytest.mark.parametrize(
    ("method", "rows", "validation"),
    [
        ("dpo", *[trainers.preference_rows(LEARNED, trainers.answers_swapped(LEARNED))] * 2),
        ("orpo", *[trainers.preference_rows(LEARNED, trainers.answers_swapped(LEARNED))] * 2),
        ("kto", *[trainers.labelled_rows(LEARNED, trainers.answers_swapped(LEARNED))] * 2),
        ("embedding", *[trainers.texts(LEARNED)] * 2),
    ],
)
def test_every_method_looks_at_them(
    start: Start, new_run: NewRun, method: str, rows: list[trainers.Row], validation: list[trainers.Row]
) -> None:
    run_dir = new_run(rows, method=method, epochs=1, batch_size=4, validation=validation)
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    metrics = trainers.result(run_dir).metrics
    assert metrics["validation_loss"] == metrics["first_validation_loss"] > 0
    assert ("validation_reward_margin" in metrics) == (method in PREFERENCE)
    if method == "embedding":
        assert metrics["recall_on"] == "validation"


def test_without_them_no_run_can_end_early(start: Start, new_run: NewRun) -> None:
    run_dir = new_run(LEARNED, epochs=1, early_stopping_patience=1)
    assert start(run_dir).wait() == TrainerExit.FAILED
    assert trainers.failure_code(run_dir) == "validation_missing"
