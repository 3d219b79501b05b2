"""Several GPUs: what can be is estimated by the card, and what cannot is known before anything is paid."""

from __future__ import annotations

import pytest

from shared.training.config import Engine, Method, TrainingConfig
from shared.training.estimate import Estimate, on_gpu
from shared.training.gpu_count import unavailable, unshared
from shared.training.spec import RunSpec
from tests.shared.training.runs import rows, run

LARGE = rows(20_000, tokens=10_000_000)


def with_gpus(count: int, method: Method = "full", gpu: str | None = None) -> RunSpec:
    return run("Qwen/Qwen3-8B", method, batch_size=16).model_copy(update={"gpu_count": count, "gpu": gpu})


def estimated(count: int, method: Method = "full", gpu: str | None = "H100") -> Estimate:
    return on_gpu(with_gpus(count, method), LARGE, provider="modal", gpu=gpu)


def test_each_gpu_is_paid_and_shortens_the_run() -> None:
    one, four = estimated(1, "lora"), estimated(4, "lora")
    assert (four.gpu, four.gpu_count) == ("H100", 4)
    assert four.usd_per_second == pytest.approx(4 * (one.usd_per_second or 0))
    assert one.duration_seconds_high is not None
    assert four.duration_seconds_high is not None
    assert one.duration_seconds_high / 4 < four.duration_seconds_high < one.duration_seconds_high
    assert any("exchange" in note for note in four.notes)


def test_a_full_fine_tuning_is_spread_over_the_cards_and_adapters_are_not() -> None:
    one, eight = estimated(1).memory_parts, estimated(8).memory_parts
    assert one is not None
    assert eight is not None
    assert (eight.weights, eight.optimizer) == (one.weights / 8, one.optimizer / 8)
    assert eight.total < 80e9 < one.total
    lora_one, lora_eight = estimated(1, "lora").memory_parts, estimated(8, "lora").memory_parts
    assert lora_one is not None
    assert lora_eight is not None
    assert lora_eight.weights == lora_one.weights


def test_the_cheapest_with_so_many_is_chosen() -> None:
    alone, shared = estimated(1, gpu=None), estimated(8, gpu=None)
    assert alone.gpu in ("H200", "B200"), "no other card holds all of it"
    assert shared.gpu == "L4"
    there = on_gpu(with_gpus(4), LARGE, provider="huggingface", gpu=None)
    assert there.gpu in ("l40sx4", "a100x4", "h200x4", "rtx-pro-6000x4")


@pytest.mark.parametrize(
    ("provider", "gpu", "count", "reason"),
    [
        ("modal", "H100", 8, None),
        ("modal", "H100:2", 1, "gpuCount"),
        ("huggingface", "a100x4", 4, None),
        ("modal", "A10", 4, None),
        ("modal", "A10G", 8, "not known to have A10G with 8 GPUs"),
        ("huggingface", "a100x4", 2, "not known to have a100x4 with 2 GPUs"),
        ("huggingface", "a100-large", 2, "not known to have a100-large with 2 GPUs"),
        ("huggingface", None, 4, None),
        ("huggingface", None, 3, "not known to have a machine with 3 GPUs"),
        ("local", None, 2, None),
        ("local", None, 4, "This machine has 2 GPUs"),
    ],
)
def test_a_place_without_so_many_is_refused(
    provider: str, gpu: str | None, count: int, reason: str | None
) -> None:
    said = unavailable(with_gpus(count, gpu=gpu), provider, local_gpus=2)
    assert (said is None) if reason is None else (reason in (said or ""))


@pytest.mark.parametrize(
    ("engine", "method", "batch_size", "count", "reason"),
    [
        ("trl", "lora", 8, 4, None),
        ("trl", "lora", 8, 3, "cannot share a batch of 8 rows evenly"),
        ("trl", "kto", 8, 8, "batchSize of 16 or more"),
        ("unsloth", "lora", 8, 2, "Unsloth trains on one GPU here"),
        ("unsloth", "lora", 8, 1, None),
    ],
)
def test_a_step_that_cannot_be_shared_is_refused(
    engine: Engine, method: Method, batch_size: int, count: int, reason: str | None
) -> None:
    said = unshared(TrainingConfig(engine=engine, batch_size=batch_size), method, count)
    assert (said is None) if reason is None else (reason in (said or ""))


def test_one_gpu_is_the_run_that_it_was_before_there_could_be_more() -> None:
    alone = run("Qwen/Qwen3-8B")
    assert "gpu_count" in alone.model_dump()
    assert alone.fingerprint() != alone.model_copy(update={"gpu_count": 2}).fingerprint()
