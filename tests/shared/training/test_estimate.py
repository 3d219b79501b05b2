"""Estimates: what they add up to, and what they do when something is not known."""

from __future__ import annotations

from typing import Any

import pytest

from shared.training.catalog import TINY
from shared.training.config import METHODS, Method
from shared.training.estimate import Estimate, at_vendor, on_gpu, on_this_machine
from shared.training.prices import gpu_prices
from shared.training.sizing.gpus import CARDS
from tests.shared.training.runs import rows, run

SMALL = rows(100, tokens=4_306)
LARGE = rows(20_000, tokens=10_000_000)
GPU_PLACES = ("modal", "huggingface")


def test_the_golden_case() -> None:
    estimate = at_vendor(run("gpt-4.1-mini", "full", epochs=20), SMALL, vendor="openai")
    assert (estimate.training_tokens, estimate.billable_tokens) == (4_306, 86_120)
    assert (estimate.cost_usd_low, estimate.cost_usd, estimate.cost_usd_high) == (0.4306, 0.4306, 0.4306)
    assert (estimate.usd_per_million_tokens, estimate.price_unit) == (5.0, "million_training_tokens")
    assert (estimate.price_date, estimate.shutdown_date, estimate.closes_date) == (
        "2026-11-20",
        "2027-01-14",
        "2027-01-06",
    )
    assert (estimate.usd_per_second, estimate.duration_seconds_low, estimate.gpu) == (None, None, None)
    assert "2027-01-14" in " ".join(estimate.notes)


@pytest.mark.parametrize("base_model", ["Qwen/Qwen3-8B", "gpt-3.5-turbo"])
@pytest.mark.parametrize("vendor", ["openai", "together", "a service that nobody knows"])
def test_what_has_no_price_is_not_free(base_model: str, vendor: str) -> None:
    estimate = at_vendor(run(base_model, "full"), SMALL, vendor=vendor)
    assert (estimate.cost_usd, estimate.cost_usd_low, estimate.cost_usd_high) == (None, None, None)
    assert "not free" in estimate.notes[0]
    assert estimate.held_usd() is None
    assert estimate.held_usd(2.5) == 2.5


def test_here_only_time_is_spent() -> None:
    estimate = on_this_machine(run(TINY, "full", epochs=20), SMALL)
    assert estimate.billable_tokens == 86_120
    assert (estimate.cost_usd, estimate.held_usd()) == (0.0, 0.0)
    assert 4 < (estimate.duration_seconds_low or 0) < (estimate.duration_seconds_high or 0)
    unknown = on_this_machine(run("/models/mine", "full"), SMALL)
    assert (unknown.duration_seconds_high, unknown.memory_bytes_high) == (None, None)


def ranges(estimate: Estimate) -> list[tuple[Any, Any]]:
    return [
        (estimate.cost_usd_low, estimate.cost_usd_high),
        (estimate.duration_seconds_low, estimate.duration_seconds_high),
        (estimate.memory_bytes_low, estimate.memory_bytes_high),
    ]


@pytest.mark.parametrize("provider", GPU_PLACES)
@pytest.mark.parametrize("dataset", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("base_model", [TINY, "Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B", "x/big-70B"])
def test_a_gpu_gives_ranges_around_the_cost(provider: str, dataset: Any, base_model: str) -> None:
    estimate = on_gpu(run(base_model), dataset, provider=provider, gpu=None)
    assert all(0 < low <= high for low, high in ranges(estimate))
    assert estimate.cost_usd_low < estimate.cost_usd < estimate.cost_usd_high
    seconds, rate = estimate.duration_seconds_high, estimate.usd_per_second
    assert 0.94 * seconds * rate <= estimate.cost_usd_high <= 1.06 * (seconds + 60) * rate  # two digits each


@pytest.mark.parametrize("provider", GPU_PLACES)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_more_work_is_never_cheaper(provider: str, method: Method) -> None:
    gpu = "B200" if provider == "modal" else "h200"
    bounds = [
        [high for _, high in ranges(on_gpu(run(base, method), data, provider=provider, gpu=gpu))]
        for base in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B")
        for data in (SMALL, LARGE)
    ]
    for less, more in ((0, 1), (2, 3), (0, 2), (1, 3)):
        assert all(a <= b for a, b in zip(bounds[less], bounds[more], strict=True))


# Sums by hand for 8,192 tokens a step with checkpointing and adapters of rank 16 in float32. Of the first:
# weights 1.0, adapters with their moments 0.1, inputs of 24 blocks 0.4, one block 0.6 and its widest tensor
# 0.3, allocator 0.2, CUDA 1.0.
@pytest.mark.parametrize(
    ("base_model", "gigabytes"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 3.6),
        ("Qwen/Qwen3-4B", 14.7),
        ("meta-llama/Llama-3.1-8B-Instruct", 25.0),
    ],
)
def test_memory_of_lora_follows_the_sums_over_layers(base_model: str, gigabytes: float) -> None:
    estimate = on_gpu(run(base_model, batch_size=8), rows(100, tokens=102_400), provider="modal", gpu="H200")
    assert estimate.memory_bytes_high == pytest.approx(gigabytes * 1e9, rel=0.15)


def test_each_method_takes_what_its_work_is() -> None:
    seconds, memory = {}, {}
    for method in sorted(METHODS):
        estimate = on_gpu(run("Qwen/Qwen3-8B", method), LARGE, provider="modal", gpu="B200")
        seconds[method], memory[method] = estimate.duration_seconds_high, estimate.memory_bytes_low
    assert seconds["lora"] <= seconds["qlora"] < seconds["dpo"] < seconds["kto"]
    assert seconds["lora"] <= seconds["orpo"] < seconds["dpo"]
    assert memory["qlora"] < memory["lora"] < memory["full"] < memory["embedding"]
    assert memory["dpo"] == pytest.approx(memory["lora"], rel=0.01)
    here = {
        method: on_this_machine(run("Qwen/Qwen3-8B", method), SMALL).memory_bytes_low for method in METHODS
    }
    assert here["qlora"] < here["lora"] < here["full"]
    assert here["dpo"] == pytest.approx(here["lora"], rel=0.01)


def test_full_training_holds_sixteen_bytes_a_parameter() -> None:
    estimate = on_gpu(run("Qwen/Qwen3-8B", "full"), SMALL, provider="modal", gpu="B200")
    assert estimate.memory_bytes_low
    assert 16 * 8.2e9 < estimate.memory_bytes_low < 1.2 * 16 * 8.2e9


@pytest.mark.parametrize("provider", GPU_PLACES)
def test_the_gpu_that_is_chosen_holds_the_run_and_ends_it_in_time(provider: str) -> None:
    for base_model in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B"):
        for dataset in (SMALL, LARGE):
            estimate = on_gpu(run(base_model), dataset, provider=provider, gpu=None)
            price = next(offer for offer in gpu_prices(provider) if offer.gpu == estimate.gpu)
            card = CARDS[price.card or ""]
            assert (estimate.memory_bytes_high or 0) <= card.memory_bytes
            assert (estimate.duration_seconds_high or 0) <= 22_000  # six hours, in two digits
            assert card.has_bfloat16


def test_no_gpu_is_large_enough() -> None:
    estimate = on_gpu(run("x/huge-70B", "full"), SMALL, provider="huggingface", gpu=None)
    assert estimate.gpu == "h200"
    assert "may be too small" in " ".join(estimate.notes)


def test_of_a_model_without_a_known_size_nothing_is_calculated() -> None:
    estimate = on_gpu(run("acme/door-opener"), SMALL, provider="modal", gpu=None)
    assert ranges(estimate) == [(None, None)] * 3
    assert (estimate.gpu, estimate.usd_per_second) == ("L40S", 0.000542)  # what it costs while it runs
    assert "size of acme/door-opener is not known" in estimate.notes[0]


def test_of_a_gpu_without_a_known_price_or_speed_no_cost_is_claimed() -> None:
    unknown = on_gpu(run("Qwen/Qwen3-4B"), SMALL, provider="modal", gpu="B999")
    assert (unknown.gpu, unknown.cost_usd, unknown.usd_per_second) == ("B999", None, None)
    assert "not free" in unknown.notes[0]
    assert unknown.memory_bytes_high
    untimed = on_gpu(run("Qwen/Qwen3-4B"), SMALL, provider="modal", gpu="RTX-PRO-6000")
    assert (untimed.cost_usd, untimed.usd_per_second) == (None, 0.000842)


def test_an_old_gpu_is_named_as_such() -> None:
    estimate = on_gpu(run("Qwen/Qwen3-0.6B"), SMALL, provider="huggingface", gpu="t4-small")
    assert "bfloat16" in " ".join(estimate.notes)


def test_a_cap_is_the_most_that_is_held_back() -> None:
    estimate = on_gpu(run("Qwen/Qwen3-8B"), LARGE, provider="modal", gpu="H100")
    assert estimate.held_usd() == estimate.cost_usd_high
    assert estimate.held_usd(1.0) == 1.0
    assert estimate.held_usd(1e6) == estimate.cost_usd_high


def test_json_has_every_fact_in_camel_case() -> None:
    facts = on_gpu(run("Qwen/Qwen3-4B"), SMALL, provider="modal", gpu=None).as_json()
    assert facts["costRangeUsd"]["low"] < facts["costUsd"] < facts["costRangeUsd"]["high"]
    assert not [name for name in facts if "_" in name]
