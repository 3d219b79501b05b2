"""Runs that cannot succeed: each ends with a code, and a sentence without a traceback."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from modal_app.session.failures import RunFailed, explain
from modal_app.tiny import tiny_base
from shared.training.spec import RunState, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.trainers import Trainer

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
FEW = trainers.facts(8)


def _failure(trainer: Trainer) -> str:
    assert trainer.wait() == TrainerExit.FAILED
    assert trainers.status(trainer.run_dir).state == RunState.FAILED
    error = trainers.result(trainer.run_dir).error
    assert error is not None
    assert "Traceback" not in error.message
    assert "\n" not in error.message
    return error.code


def test_rows_that_are_all_too_long(start: Start, new_run: NewRun) -> None:
    assert _failure(start(new_run(FEW, epochs=1, max_length=16))) == "nothing_to_train"


@pytest.mark.parametrize("base_model", ["nobody/has-this", "/nowhere/at/all"])
def test_a_base_model_that_is_not_there(start: Start, new_run: NewRun, base_model: str) -> None:
    assert _failure(start(new_run(FEW, base_model=base_model))) == "base_model_unavailable"


def test_answers_that_are_all_good(start: Start, new_run: NewRun) -> None:
    rows = trainers.labelled_rows(FEW, [])
    assert _failure(start(new_run(rows, method="kto", epochs=1))) == "nothing_to_compare"


def test_layers_that_the_model_does_not_have(start: Start, new_run: NewRun) -> None:
    run_dir = new_run(FEW, method="lora", epochs=1, target_modules=("q_proj", "qkv"))
    assert _failure(start(run_dir)) == "target_modules_unknown"
    error = trainers.result(run_dir).error
    assert error
    assert "down_proj, gate_proj, k_proj" in error.message


def test_rows_of_another_method(start: Start, new_run: NewRun) -> None:
    assert _failure(start(new_run(FEW, method="dpo", epochs=1))) == "dataset_invalid"
    assert _failure(start(new_run(trainers.texts(FEW), method="lora", epochs=1))) == "dataset_invalid"


def test_a_base_model_that_lacks_weights(start: Start, new_run: NewRun, data_dir: Path) -> None:
    """Made up by transformers, they would be trained without a word."""
    lacking = data_dir / "lacking"
    shutil.copytree(tiny_base(data_dir), lacking)
    weights = load_file(lacking / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, lacking / "model.safetensors", metadata={"format": "pt"})
    assert _failure(start(new_run(FEW, base_model=str(lacking)))) == "base_model_unsupported"


def test_a_dataset_that_is_not_the_one(start: Start, new_run: NewRun) -> None:
    run_dir = new_run(FEW)
    with (run_dir / "train.jsonl").open("a") as rows:
        rows.write("\n")
    assert _failure(start(run_dir)) == "dataset_mismatch"


def test_a_dataset_that_is_missing(start: Start, new_run: NewRun) -> None:
    run_dir = new_run(FEW)
    (run_dir / "train.jsonl").unlink()
    assert _failure(start(run_dir)) == "dataset_missing"


def test_a_spec_that_is_none(start: Start, new_run: NewRun) -> None:
    run_dir = new_run(FEW)
    (run_dir / "spec.json").write_text('{"attempt": 1}')
    assert _failure(start(run_dir)) == "spec_invalid"


def test_a_loss_that_is_no_number(start: Start, new_run: NewRun) -> None:
    trained = new_run(FEW, epochs=1)
    assert start(trained).wait() == TrainerExit.COMPLETED
    weights = trained / "artifact" / "model.safetensors"
    save_file({name: np.full_like(array, np.nan) for name, array in load_file(weights).items()}, weights)

    broken = new_run(FEW, base_model=str(trained / "artifact"))
    assert _failure(start(broken)) == "loss_is_nan"
    assert not any(broken.glob("checkpoints/*/manifest.json"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RunFailed("some_code", "Some reason."), "some_code"),
        (MemoryError(), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (ImportError("no", name="trl"), "dependency_missing"),
        (ValueError("first line\nsecond line"), "trainer_error"),
    ],
)
def test_every_error_has_a_code(error: Exception, code: str) -> None:
    explained = explain(error)
    assert explained.code == code
    assert "\n" not in explained.message
