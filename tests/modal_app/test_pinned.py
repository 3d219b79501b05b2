"""The recipe says which bytes a run began with, and a run that goes on begins with the same."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import numpy as np
from safetensors.numpy import load_file, save_file

from modal_app.tiny import recipe_hash, tiny_base
from shared.training.spec import TrainerExit
from tests.modal_app import trainers
from tests.modal_app.trainers import Trainer

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
FEW = trainers.facts(14)
FIRST, SECOND = "1" * 40, "2" * 40


def published(data_dir: Path, *commits: str) -> tuple[str, Path]:
    """The name of a base model in the Hub's cache, each commit with other weights, and its branch."""
    name = f"base-{uuid4()}"
    home = data_dir / "hub" / "hub" / f"models--team--{name}"
    for number, commit in enumerate(commits):
        shutil.copytree(tiny_base(data_dir), home / "snapshots" / commit)
        scaled(home / "snapshots" / commit, 1 + number)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commits[0])
    return f"team/{name}", home / "refs" / "main"


def scaled(model: Path, factor: float) -> None:
    weights = load_file(model / "model.safetensors")
    changed = {name: (array * factor).astype(np.float32) for name, array in weights.items()}
    save_file(changed, model / "model.safetensors", metadata={"format": "pt"})


def recipe(run_dir: Path) -> dict[str, object]:
    return trainers.result(run_dir).recipe


def test_a_branch_that_moves_does_not_move_a_run(start: Start, new_run: NewRun, data_dir: Path) -> None:
    """With adapters: they are worth nothing beside other weights."""
    base_model, branch = published(data_dir, FIRST, SECOND)
    settings = {"method": "lora", "base_model": base_model, "batch_size": 4, "epochs": 10, "save_steps": 6}
    whole, stopped = new_run(FEW, **settings), new_run(FEW, **settings)
    assert start(whole).wait() == TrainerExit.COMPLETED
    trainer = start(stopped)
    trainer.wait_for_checkpoint()
    trainer.signal(signal.SIGKILL)
    assert trainer.wait_for_code() == -signal.SIGKILL

    branch.write_text(SECOND)
    assert start(stopped).wait() == TrainerExit.COMPLETED
    assert recipe(stopped)["base_revision"] == recipe(whole)["base_revision"] == FIRST
    assert trainers.weights(stopped) == trainers.weights(whole)

    later = new_run(FEW, **settings)
    assert start(later).wait() == TrainerExit.COMPLETED
    assert recipe(later)["base_revision"] == SECOND
    assert trainers.weights(later) != trainers.weights(whole)


def test_a_base_without_a_commit_has_a_sha256(start: Start, new_run: NewRun, data_dir: Path) -> None:
    tiny, copied, changed = new_run(FEW, epochs=1), data_dir / "copied", data_dir / "changed"
    for copy in (copied, changed):
        shutil.copytree(tiny_base(data_dir), copy)
    scaled(changed, 2)
    assert start(tiny).wait() == TrainerExit.COMPLETED
    assert recipe(tiny)["base_sha256"] == recipe_hash()
    assert recipe(tiny)["base_revision"] is None

    seen = []
    for base in (copied, copied, changed):
        run_dir = new_run(FEW, base_model=str(base), epochs=1)
        assert start(run_dir).wait() == TrainerExit.COMPLETED
        seen.append(recipe(run_dir)["base_sha256"])
    assert seen[0] == seen[1] != seen[2], "weights of the same size are told apart"
