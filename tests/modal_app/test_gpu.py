"""What only a GPU shows. Skipped where there is none: `pytest -m gpu` on a machine that has one."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from benchmarks.training.work import Shape, write_base
from modal_app import run
from shared.training.shapes import shape_of_config
from shared.training.sizing.memory import gpu_memory
from shared.training.spec import RunState, TrainerExit
from tests.conftest import Figure
from tests.modal_app import measures, trainers
from tests.modal_app.trainers import Trainer

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
PAIRS = trainers.facts(24)
SHAPE = Shape(1024, 2816, 16, 16, 8, vocab_size=32_000, context_tokens=4096)  # about 0.25 billion weights

pytestmark = [
    pytest.mark.gpu,
    # Asked without torch, which is not imported while tests are collected.
    pytest.mark.skipif(which("nvidia-smi") is None, reason="needs CUDA, and there is none on this machine"),
]


def in_rows_and_apart() -> tuple[float, float]:
    """The loss of eight rows on one line by FlashAttention for variable lengths, and apart by PyTorch's."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import LlamaConfig, LlamaForCausalLM

    from modal_app.methods.attention import attend_within_rows
    from modal_app.methods.packing import Packer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config).to("cuda", torch.bfloat16)
    lengths = (60, 9, 130, 2, 28, 14, 31, 5)
    rows = [
        {"input_ids": [4 + (7 * row + 3 * place) % 500 for place in range(length)], "labels": [5] * length}
        for row, length in enumerate(lengths)
    ]

    def nats(batch: dict[str, Any]) -> float:
        known = {
            name: value.cuda() if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
            if name != "labels"
        }
        logits = model(**known, use_cache=False).logits[0, :-1].float()
        ids, positions = known["input_ids"][0, 1:], known["position_ids"][0, 1:]
        return float(cross_entropy(logits, ids.masked_fill(positions == 0, -100), reduction="sum").detach())

    packer = Packer(0, one_line=True)
    apart = sum(nats(packer([row])) for row in rows)
    assert attend_within_rows(model)
    return nats(packer(rows)), apart


def test_flash_attention_keeps_rows_apart(libraries: ForkServerContext, figure: Figure) -> None:
    together, apart = measures.elsewhere(libraries, in_rows_and_apart)
    figure(f"loss {apart:.4f} apart, {together:.4f} on one line")
    assert together == pytest.approx(apart, rel=2e-3)  # bfloat16


def test_qlora_learns_on_cuda(
    start: Start, new_run: NewRun, libraries: ForkServerContext, data_dir: Path, figure: Figure
) -> None:
    full = start(new_run(PAIRS, method="full", epochs=40))
    assert full.wait(300) == TrainerExit.COMPLETED
    base = str(full.run_dir / "artifact")
    other = trainers.answers_swapped(PAIRS)
    tuned = start(new_run(other, method="qlora", base_model=base, epochs=50, learning_rate=8e-3, lora_r=32))
    assert tuned.wait(300) == TrainerExit.COMPLETED
    rows = trainers.supervised_rows(other)
    before, after = (
        measures.loss(libraries, path, rows) for path in (Path(base), tuned.run_dir / "artifact")
    )
    figure(f"loss {before:.2f} before, {after:.2f} after")
    assert after < before / 4


def test_a_run_that_was_told_to_stop_goes_on(start: Start, new_run: NewRun) -> None:
    stopped = start(new_run(PAIRS, method="lora", batch_size=4, epochs=40, save_steps=6))
    stopped.wait_for_checkpoint()
    stopped.signal(signal.SIGTERM)
    assert stopped.wait_for_code() == TrainerExit.INTERRUPTED
    assert trainers.status(stopped.run_dir).state == RunState.INTERRUPTED
    assert start(stopped.run_dir).wait(300) == TrainerExit.COMPLETED


def train_within(run_dir: str, share: float) -> None:
    """The trainer, with no more than this share of the card's memory."""
    import torch

    torch.cuda.set_per_process_memory_fraction(share)
    run.main([run_dir])


def test_memory_that_ends_halves_the_rows_at_once(
    libraries: ForkServerContext, new_run: NewRun, tmp_path: Path
) -> None:
    import torch

    base = tmp_path / "base"
    write_base(base, SHAPE, dtype="bfloat16")
    wide = [(question, " ".join(answer for _, answer in PAIRS) * 2) for question, _ in PAIRS]
    run_dir = new_run(wide, method="lora", base_model=str(base), batch_size=16, epochs=1, max_length=4096)
    share = 3e9 / torch.cuda.get_device_properties(0).total_memory
    process = libraries.Process(target=train_within, args=(str(run_dir), share))
    process.start()
    assert Trainer(run_dir, process).wait(300) in (TrainerExit.COMPLETED, TrainerExit.FAILED)
    said = [report for report in trainers.reports(run_dir) if (report.message or "").startswith("Out of mem")]
    assert said[0].data["fewer_rows_at_once"] * 2 <= said[0].data["rows_at_once"]


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_memory_is_estimated_within_15_percent(
    start: Start, new_run: NewRun, tmp_path: Path, method: str, figure: Figure
) -> None:
    base = tmp_path / "base"
    write_base(base, SHAPE, dtype="bfloat16")
    rows = [(f"Which one is number {n}?", "It is one of the words that stand here. " * 40) for n in range(64)]
    run_dir = new_run(
        rows, method=method, base_model=str(base), batch_size=8, epochs=2, max_length=2048, lora_dropout=0.0
    )
    assert start(run_dir).wait(600) == TrainerExit.COMPLETED
    seen = max(
        report.progress.gpu_memory_bytes or 0 for report in trainers.reports(run_dir) if report.progress
    )
    trained = trainers.result(run_dir)
    assert trained.trained_tokens
    tokens = trained.trained_tokens / 128 * 8
    shape = shape_of_config(json.loads((base / "config.json").read_text()))
    known: Any = {"lora_r": 16, "dropout": False, "tokens": tokens, "width": tokens / 8}
    estimate = gpu_memory(shape, method, **known).reserved  # type: ignore[arg-type]  # one of the three
    figure(f"{method}: {seen / 1e9:.2f} GB measured, {estimate / 1e9:.2f} GB estimated")
    assert estimate == pytest.approx(seen, rel=0.15)
