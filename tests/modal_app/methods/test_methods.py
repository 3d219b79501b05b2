"""Every method, proven by what the model does afterwards and did not do before; each run as a trainer's.

From nothing: the base of the first runs is random, and preferences are learned by a model that they made.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from shared.training.catalog import TINY
from shared.training.config import Method
from shared.training.spec import RunResult, TrainerExit
from tests.conftest import Figure
from tests.modal_app import measures, trainers
from tests.modal_app.trainers import Trainer

NewRun = Callable[..., Path]
Finish = Callable[[str], tuple[RunResult, Path]]

TAUGHT = trainers.facts(24)
WANTED = trainers.answers_swapped(TAUGHT)  # what a preference is for; the taught answers are the worse ones
SUPERVISED: dict[Method, dict[str, Any]] = {
    "full": {"epochs": 20},
    "lora": {"epochs": 30},
    "qlora": {"epochs": 30, "eval_steps": 60, "validation": trainers.supervised_rows(TAUGHT[:4])},
}
STRONG = {"epochs": 7, "learning_rate": 2e-3, "lora_r": 32, "lora_alpha": 64}
PREFERRED: dict[Method, dict[str, Any]] = {
    "dpo": {**STRONG, "rows": trainers.preference_rows(WANTED, TAUGHT)},
    "orpo": {**STRONG, "learning_rate": 5e-3, "rows": trainers.preference_rows(WANTED, TAUGHT)},
    "kto": {**STRONG, "rows": trainers.labelled_rows(WANTED, TAUGHT)},
}


@pytest.fixture(scope="module")
def finish(start: Callable[[Path], Trainer], new_run: NewRun) -> Finish:
    """The result and directory of a method's run. All that need no other are started at once."""
    started = {
        method: start(new_run(TAUGHT, method=method, **settings)) for method, settings in SUPERVISED.items()
    }
    started["embedding"] = start(new_run(trainers.texts(TAUGHT), method="embedding", epochs=10))
    ended: dict[str, tuple[RunResult, Path]] = {}

    def finish(method: str) -> tuple[RunResult, Path]:
        if method in PREFERRED and method not in started:
            taught = str(finish("full")[1] / "artifact")
            for other, settings in PREFERRED.items():
                started[other] = start(new_run(method=other, base_model=taught, **settings))
        if method not in ended:
            trainer = started[method]
            assert trainer.wait(150) == TrainerExit.COMPLETED, trainers.result(trainer.run_dir).error
            ended[method] = trainers.result(trainer.run_dir), trainer.run_dir
        return ended[method]

    return finish


@pytest.mark.parametrize("method", SUPERVISED)
def test_it_answers_what_it_could_not(
    finish: Finish, libraries: ForkServerContext, data_dir: Path, method: str, figure: Figure
) -> None:
    result, run_dir = finish(method)
    questions = [(TINY, TAUGHT[:5]), (str(run_dir / "artifact"), TAUGHT)]
    before, after = measures.right_answers(libraries, data_dir, questions)
    figure(
        f"{method}: {before} of 5 right before, {after} of {len(TAUGHT)} after, loss"
        f" {result.metrics['first_loss']:.2f} -> {result.training_loss:.4f}, {result.duration_seconds:.1f} s"
    )
    assert before == 0
    assert after >= 0.95 * len(TAUGHT)
    assert result.artifact_path == str(run_dir / "artifact")
    assert result.metrics["first_loss"] > 5
    assert result.training_loss is not None
    assert result.training_loss < 0.5
    assert result.template_fingerprint is not None
    assert (run_dir / "adapter").exists() == (method != "full")


def test_looking_at_validation_rows_changes_no_weight_of_qlora(finish: Finish) -> None:
    """bitsandbytes would turn its layers into a form without gradients at the first look."""
    lora, qlora = finish("lora")[0], finish("qlora")[0]
    assert len(qlora.metrics.keys() & {"validation_loss", "first_validation_loss"}) == 2
    assert qlora.training_loss == pytest.approx(lora.training_loss, abs=0.05)


@pytest.mark.parametrize("method", PREFERRED)
def test_the_better_answer_gains_on_the_worse(
    finish: Finish, libraries: ForkServerContext, method: str, figure: Figure
) -> None:
    result, run_dir = finish(method)
    taught = finish("full")[1] / "artifact"
    rows = trainers.preference_rows(WANTED, TAUGHT)
    before, after = measures.margins(libraries, [taught, run_dir / "artifact"], rows)
    first, last = result.metrics["first_reward_margin"], result.metrics["reward_margin"]
    figure(
        f"{method}: log-probability of the better answer over the worse {before:.1f} -> {after:.1f},"
        f" reward margin {first:.3f} -> {last:.3f}, {result.duration_seconds:.1f} s"
    )
    assert before < 0
    assert after > before + 5
    assert last > first
    assert (method == "kto") or result.metrics["reward_accuracy"] > result.metrics["first_reward_accuracy"]
    assert result.template_fingerprint == finish("full")[0].template_fingerprint


def test_an_embedding_finds_the_answer_to_a_question(
    finish: Finish, libraries: ForkServerContext, figure: Figure
) -> None:
    result, run_dir = finish("embedding")
    found = measures.recall(libraries, run_dir / "artifact", TAUGHT)
    before, after = result.metrics["recall_at_1_before"], result.metrics["recall_at_1"]
    figure(
        f"embedding: recall@1 {before:.2f} -> {after:.2f}, loaded again {found:.2f},"
        f" {result.duration_seconds:.1f} s"
    )
    assert before < 0.5
    assert after == found >= 0.95
    assert result.template_fingerprint is None
    assert result.trained_tokens
