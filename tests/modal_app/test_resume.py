"""Stopping and going on gives the same model, to the bit, as never having stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.training.config import Method
from shared.training.spec import RunState, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.trainers import Row, Trainer, until

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
PAIRS = trainers.facts(14)  # the last batch of an epoch is smaller: 4 steps


ROWS: dict[Method, list[Row]] = {
    "full": trainers.supervised_rows(PAIRS),
    "lora": trainers.supervised_rows(PAIRS),
    "qlora": trainers.supervised_rows(PAIRS),
    "orpo": trainers.preference_rows(PAIRS, trainers.answers_swapped(PAIRS)),
    "kto": trainers.labelled_rows(PAIRS[:7], trainers.answers_swapped(PAIRS)[:7]),
    "embedding": trainers.texts(PAIRS),
}


def _new(new_run: NewRun, method: Method) -> Path:
    return new_run(ROWS[method], method=method, batch_size=4, epochs=10, save_steps=6)


@pytest.mark.parametrize(
    ("method", "how", "code"),
    [
        ("lora", signal.SIGTERM, TrainerExit.INTERRUPTED),  # its dropout draws random numbers
        ("full", signal.SIGINT, TrainerExit.INTERRUPTED),
        ("full", signal.SIGKILL, -signal.SIGKILL),
        ("qlora", signal.SIGTERM, TrainerExit.INTERRUPTED),
        ("orpo", signal.SIGKILL, -signal.SIGKILL),
        ("kto", signal.SIGTERM, TrainerExit.INTERRUPTED),
        ("embedding", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_resume_equals_not_stopping(
    start: Start, new_run: NewRun, method: Method, how: signal.Signals, code: int
) -> None:
    whole, stopped = start(_new(new_run, method)), start(_new(new_run, method))
    stopped.wait_for_checkpoint()
    stopped.signal(how)
    assert stopped.wait_for_code() == code
    seen = trainers.reports(stopped.run_dir)
    if how != signal.SIGKILL:
        assert trainers.status(stopped.run_dir).state == RunState.INTERRUPTED
        assert not (stopped.run_dir / "artifact").exists()

    resumed = start(stopped.run_dir)
    assert resumed.wait() == TrainerExit.COMPLETED
    assert whole.wait() == TrainerExit.COMPLETED

    expected, found = trainers.result(whole.run_dir), trainers.result(resumed.run_dir)
    assert found.training_loss == pytest.approx(expected.training_loss, abs=1e-6)
    assert found.trained_tokens == expected.trained_tokens
    assert trainers.weights(resumed.run_dir) == trainers.weights(whole.run_dir)
    every = trainers.reports(resumed.run_dir)
    assert [report.seq for report in every] == list(range(1, len(every) + 1))
    assert any("goes on from step" in (report.message or "") for report in every[len(seen) :])


def test_a_half_written_checkpoint_is_passed_over(start: Start, new_run: NewRun) -> None:
    run_dir = _new(new_run, "full")
    first = start(run_dir)
    first.wait_for_checkpoint()
    first.signal(signal.SIGTERM)
    assert first.wait() == TrainerExit.INTERRUPTED
    torn = run_dir / "checkpoints" / "checkpoint-39"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half of")

    assert start(run_dir).wait() == TrainerExit.COMPLETED
    assert not (run_dir / "checkpoints").exists()


def test_a_damaged_checkpoint_is_passed_over(start: Start, new_run: NewRun) -> None:
    settings = {"batch_size": 4, "epochs": 10, "save_steps": 12}
    whole, run_dir = new_run(PAIRS, **settings), new_run(PAIRS, **settings)
    first = start(run_dir)
    until(lambda: len(list(run_dir.glob("checkpoints/*/manifest.json"))) == 2)
    first.signal(signal.SIGKILL)
    assert first.wait_for_code() == -signal.SIGKILL
    older, newer = sorted(
        int(path.parent.name.partition("-")[2]) for path in run_dir.glob("checkpoints/*/manifest.json")
    )
    optimizer = run_dir / "checkpoints" / f"checkpoint-{newer}" / "optimizer.pt"
    flipped = bytearray(optimizer.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    optimizer.write_bytes(flipped)

    assert start(run_dir).wait() == TrainerExit.COMPLETED
    assert start(whole).wait() == TrainerExit.COMPLETED
    assert trainers.weights(run_dir) == trainers.weights(whole)
    told = [report.message or "" for report in trainers.reports(run_dir) if report.kind == "event"]
    assert told[1].startswith(f"The checkpoint of step {newer} is damaged and was passed over: optimizer.pt ")
    assert told[2:] == [f"Training goes on from step {older} of 40."]


def test_a_model_that_could_not_be_saved_is_saved_by_the_next_trainer(start: Start, new_run: NewRun) -> None:
    run_dir = _new(new_run, "full")
    in_the_way = run_dir / "artifact.saving"
    in_the_way.touch()  # a file where a directory must be
    assert start(run_dir).wait() == TrainerExit.FAILED
    in_the_way.unlink()
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    trained = [r.progress.step for r in trainers.reports(run_dir) if r.progress and r.progress.step]
    assert trained == sorted(trained), "steps were trained again"


def test_a_completed_run_says_so_again(start: Start, new_run: NewRun) -> None:
    run_dir = new_run(PAIRS, epochs=1)
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    before = trainers.result(run_dir), trainers.weights(run_dir)
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    after = trainers.result(run_dir), trainers.weights(run_dir)
    assert after == before
    told = [report.message for report in trainers.reports(run_dir) if report.kind == "event"]
    assert told == ["Training started: 14 rows, 4 steps."], "it was trained again"
