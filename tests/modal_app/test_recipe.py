"""A recipe repeats its run: the same weights, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modal_app.session.directory import RunDirectory
from shared.training.config import Method
from shared.training.recipe import Recipe, read_recipe
from shared.training.spec import RunSpec, TrainerExit
from tests.conftest import Figure
from tests.modal_app import trainers
from tests.modal_app.trainers import Trainer

PAIRS = trainers.facts(14)
VALIDATION = trainers.supervised_rows(PAIRS[:3])


def from_recipe(new_run: Callable[..., Path], recipe: Recipe, rows: list[trainers.Row]) -> Path:
    """A run directory of which only the recipe and the rows are known."""
    return new_run(
        rows,
        method=recipe.method,
        base_model=recipe.base_model,
        validation=VALIDATION,
        **recipe.config.model_dump(),
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_runs_from_one_recipe_have_equal_weights(
    start: Callable[[Path], Trainer], new_run: Callable[..., Path], method: Method, figure: Figure
) -> None:
    rows = trainers.supervised_rows(PAIRS)
    first = new_run(rows, method=method, validation=VALIDATION, epochs=4, batch_size=4, seed=7)
    assert start(first).wait() == TrainerExit.COMPLETED
    written = Recipe.model_validate(trainers.result(first).recipe).written()

    recipe = read_recipe(written.encode(), "recipe.json")
    again, elsewhere = from_recipe(new_run, recipe, rows), from_recipe(new_run, recipe, rows)
    (elsewhere / "spec.json").write_text(
        RunDirectory(elsewhere).spec().model_copy(update={"model_name": "another name"}).model_dump_json()
    )
    running = [start(again), start(elsewhere)]
    assert [trainer.wait() for trainer in running] == [TrainerExit.COMPLETED] * 2

    weights = {trainers.weights(run_dir) for run_dir in (first, again, elsewhere)}
    figure(f"{method}: sha256 of the weights of three runs: {sorted(weight[:16] for weight in weights)}")
    assert len(weights) == 1
    assert Recipe.model_validate(trainers.result(again).recipe) == recipe


def test_the_recipe_says_all_that_decides(
    start: Callable[[Path], Trainer], new_run: Callable[..., Path]
) -> None:
    run_dir = new_run(trainers.supervised_rows(PAIRS), epochs=1)
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    result, spec = trainers.result(run_dir), trainers.spec(run_dir)
    recipe = Recipe.model_validate(result.recipe)
    assert (recipe.config, recipe.method, recipe.base_model) == (spec.config, spec.method, spec.base_model)
    assert (recipe.dataset_sha256, recipe.validation_sha256) == (spec.dataset.sha256, None)
    assert recipe.template_fingerprint == result.template_fingerprint is not None
    assert recipe.spec_fingerprint == spec.fingerprint()
    assert {"torch", "transformers", "trl", "peft"} <= recipe.libraries.keys()
    decisive = set(RunSpec.model_fields) - {
        "job_id", "attempt", "run_id", "model_name", "gpu", "timeout_seconds", "dataset", "validation",
        "parent",  # which base_model names
    }  # fmt: skip
    assert decisive <= set(Recipe.model_fields)
