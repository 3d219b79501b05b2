"""Being told to stop by a file or by another trainer."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shared.training.spec import RunState, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.endpoint import Endpoint
from tests.modal_app.trainers import Trainer

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
LONG = trainers.facts(40)


def test_a_cancel_file_ends_the_run(start: Start, new_run: NewRun) -> None:
    trainer = start(new_run(LONG, epochs=50, save_steps=5))
    trainer.wait_for_checkpoint()
    (trainer.run_dir / "cancel").touch()
    assert trainer.wait() == TrainerExit.CANCELLED
    assert trainers.status(trainer.run_dir).state == RunState.CANCELLED
    assert not (trainer.run_dir / "artifact").exists()


def test_a_signal_beside_a_cancel_file_is_a_cancel(start: Start, new_run: NewRun) -> None:
    trainer = start(new_run(LONG, epochs=50, save_steps=5))
    trainer.wait_for_checkpoint()
    (trainer.run_dir / "cancel").touch()
    trainer.signal(signal.SIGTERM)
    assert trainer.wait() == TrainerExit.CANCELLED


def test_the_second_trainer_of_a_directory_leaves(start: Start, new_run: NewRun) -> None:
    first = start(new_run(LONG, epochs=50, save_steps=5))
    first.wait_for_checkpoint()
    before = (first.run_dir / "spec.json").read_bytes()
    assert start(first.run_dir).wait() == TrainerExit.CLAIM_LOST
    assert trainers.status(first.run_dir).state == RunState.TRAINING
    assert (first.run_dir / "spec.json").read_bytes() == before
    first.signal(signal.SIGTERM)
    assert first.wait() == TrainerExit.INTERRUPTED


def test_a_refused_claim_costs_no_torch(new_run: NewRun, callback: Endpoint) -> None:
    callback.mood = "stolen"
    run_dir = new_run(trainers.facts(8), epochs=1, callback_url=callback.url)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "modal_app.run", str(run_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == TrainerExit.CLAIM_LOST
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "modal_app.session.reporter" in imported
    assert not imported & {"torch", "transformers", "trl", "peft", "datasets"}
