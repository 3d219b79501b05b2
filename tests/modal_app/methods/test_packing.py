"""Rows that share a line: isolated, counted rightly, and with the losses that they have apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modal_app.methods.packing import Packer, Row, isolates, lay_out, real_tokens
from modal_app.tiny import tiny_base
from shared.datasets.loss_mask import IGNORED
from shared.training.config import Method
from shared.training.spec import TrainerExit
from tests.conftest import Figure
from tests.modal_app import trainers
from tests.modal_app.trainers import Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PAD = 3
# Lengths as unlike as they come, so that lines are really shared.
ROWS: list[Row] = [
    {
        "input_ids": [4 + (7 * row + 3 * place) % 200 for place in range(length)],
        "labels": [IGNORED] * (length // 2) + [5] * (length - length // 2),
    }
    for row, length in enumerate((60, 9, 30, 2, 28, 14, 31, 5))
]
TALKS = [(f"What is item {n}?", "word " * length + f"{n}.") for n, length in enumerate((60, 2, 20, 5) * 4)]


@pytest.fixture(scope="module")
def model(data_dir: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM  # imports torch: not while tests are collected

    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_base(data_dir)).eval()
    return loaded


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40), extra=st.integers(0, 60))
def test_every_row_stands_once_and_no_line_is_over_its_room(lengths: list[int], extra: int) -> None:
    capacity = max(lengths) + extra
    lines = lay_out(lengths, capacity)
    assert sorted(index for line in lines for index in line) == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in line) for line in lines]
    assert max(filled) <= capacity
    assert sum(sorted(filled)[:2]) > capacity or len(lines) == 1  # no two lines would fit on one


def _nats(model: PreTrainedModel, batch: dict[str, Any]) -> float:
    """The summed loss of the labels of a batch."""
    import torch

    with torch.no_grad():
        logits = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
    foretold, labels = logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    return float(torch.nn.functional.cross_entropy(foretold, labels, reduction="sum", ignore_index=IGNORED))


@pytest.mark.parametrize("one_line", [False, True])
def test_packed_and_separate_losses_agree(model: PreTrainedModel, one_line: bool, figure: Figure) -> None:
    packer = Packer(PAD, one_line=one_line)
    packed = packer(ROWS)
    separate = sum(_nats(model, packer([row])) for row in ROWS)
    together = _nats(model, packed)
    tokens = sum(len(row["input_ids"]) for row in ROWS)
    figure(
        f"{len(ROWS)} rows in {packed['input_ids'].shape[0]} lines: loss {separate:.6f} apart,"
        f" {together:.6f} together; {tokens} tokens in {packed['input_ids'].numel()} places"
    )
    assert packed["input_ids"].shape[0] == (1 if one_line else 3)
    assert together == pytest.approx(separate, rel=1e-4)
    assert int(real_tokens(packed["position_ids"])) == tokens
    learned = sum(label != IGNORED for row in ROWS for label in row["labels"])
    assert int((packed["labels"] != IGNORED).sum()) == learned


def test_a_model_that_keeps_rows_apart_is_told_from_one_that_does_not(model: PreTrainedModel) -> None:
    import torch

    assert isolates(model, Packer(PAD), ROWS)
    assert isolates(model, Packer(PAD, one_line=True), ROWS)
    assert not isolates(model, Packer(PAD), ROWS[:1])

    def deaf(**given: torch.Tensor) -> Any:
        """Counts positions through, as a model that knows nothing of packing."""
        lines, width = given["input_ids"].shape
        return model(input_ids=given["input_ids"], position_ids=torch.arange(width).expand(lines, width))

    class Deaf:
        training, device, dtype = False, model.device, model.dtype
        eval = train = lambda *_: None
        __call__ = staticmethod(deaf)

    assert not isolates(Deaf(), Packer(PAD), ROWS)  # type: ignore[arg-type]  # as far as it is asked


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_packed_run_learns_what_a_padded_one_learns(
    start: Callable[[Path], Trainer], new_run: Callable[..., Path], method: Method, figure: Figure
) -> None:
    """The same rows in the same steps: each loss of the run agrees, and so do the tokens that are billed."""
    config: dict[str, Any] = {"method": method, "batch_size": 8, "epochs": 3, "lora_dropout": 0.0}
    validation = trainers.supervised_rows(TALKS[:4])
    runs = [
        start(new_run(TALKS, packing=packing, validation=validation, **config)) for packing in (True, False)
    ]
    for run in runs:
        assert run.wait() == TrainerExit.COMPLETED
    packed, padded = (trainers.result(run.run_dir) for run in runs)
    figure(f"{method}: loss {packed.training_loss} packed, {padded.training_loss} padded")
    assert packed.training_loss == pytest.approx(padded.training_loss, abs=1e-4)
    assert packed.metrics["validation_loss"] == pytest.approx(padded.metrics["validation_loss"], abs=1e-4)
    assert packed.trained_tokens == padded.trained_tokens
    assert packed.metrics["steps"] == padded.metrics["steps"]
    assert not [event for run in runs for event in trainers.reports(run.run_dir) if event.level == "warning"]
