"""Asked before training the model fails, asked after it answers: nothing less is proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.training.catalog import TINY
from shared.training.config import Method
from shared.training.spec import TrainerExit
from tests.modal_app import trainers
from tests.modal_app.inference import answer
from tests.modal_app.trainers import Trainer

PAIRS = trainers.facts(24)


def _right(client: httpx.Client, model: str, pairs: list[trainers.Pair]) -> int:
    return sum(answer(client, model, question) == expected for question, expected in pairs)


@pytest.mark.parametrize(("method", "epochs"), [("full", 20), ("lora", 30)])
def test_it_learns(
    start: Callable[[Path], Trainer],
    new_run: Callable[..., Path],
    client: httpx.Client,
    method: Method,
    epochs: int,
) -> None:
    run_dir = new_run(PAIRS, method=method, epochs=epochs)
    trainer = start(run_dir)
    assert _right(client, TINY, PAIRS[:5]) == 0
    assert trainer.wait(120) == TrainerExit.COMPLETED

    result = trainers.result(run_dir)
    assert result.artifact_path == str(run_dir / "artifact")
    assert _right(client, result.artifact_path, PAIRS) >= 0.95 * len(PAIRS)
    assert result.metrics["first_loss"] > 5
    assert result.training_loss is not None
    assert result.training_loss < 0.5
    assert result.template_fingerprint is not None
    assert (run_dir / "adapter").exists() == (method == "lora")
