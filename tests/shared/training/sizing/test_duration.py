"""How long runs take: against the only published figure that names its GPU, and by order."""

from __future__ import annotations

import pytest

from shared.training.catalog import CATALOG
from shared.training.config import Method
from shared.training.shapes import ModelShape, shape_of_config
from shared.training.sizing.duration import flops_per_token, trainer_seconds
from shared.training.sizing.gpus import CARDS, Range
from shared.training.sizing.workload import Workload
from tests.shared.training.runs import rows, run

QWEN_8B = CATALOG["Qwen/Qwen3-8B"].shape
LLAMA_2_7B = shape_of_config(
    {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "intermediate_size": 11_008,
        "vocab_size": 32_000,
    }
)


def tokens_per_second(method: Method, card: str, *, shape: ModelShape = QWEN_8B, mean: int = 512) -> Range:
    file = rows(4_000, tokens=4_000 * mean)
    seconds = trainer_seconds(shape, Workload.of(run("Qwen/Qwen3-8B", method), file), CARDS[card])
    assert seconds is not None
    return Range(3 * file.token_count / seconds.high, 3 * file.token_count / seconds.low)


# LLaMA-Factory's wiki (Performance comparison, April 2024): Llama-2-7B with LoRA on an A100 of 40 GB, four
# rows of 1,024 tokens: 2,392 tokens/s with plain transformers, 2,954 with FlashAttention 2.
def test_a_published_speed_lies_within_the_range() -> None:
    speed = tokens_per_second("lora", "A100-40GB", shape=LLAMA_2_7B, mean=1024)
    assert speed.low < 2_392 < 2_954 < speed.high


def test_a_token_takes_two_operations_a_weight_and_pass() -> None:
    matmul = QWEN_8B.matmul_parameters
    assert flops_per_token(QWEN_8B, "full", 0) == 8 * matmul
    assert flops_per_token(QWEN_8B, "full", 0, recomputes=False) == 6 * matmul  # Kaplan et al. 2020
    assert flops_per_token(QWEN_8B, "lora", 0) == 6 * matmul
    assert flops_per_token(QWEN_8B, "lora", 8192) > 1.1 * flops_per_token(QWEN_8B, "lora", 512)


def test_faster_cards_are_faster_and_methods_keep_their_order() -> None:
    cards = ("L4", "L40S", "A100-80GB", "H100", "H200", "B200")
    speeds = [tokens_per_second("lora", card).high for card in cards]
    assert speeds == sorted(speeds)
    assert (
        tokens_per_second("lora", "H100").high
        > tokens_per_second("qlora", "H100").high
        > tokens_per_second("full", "H100").high
    )
    assert tokens_per_second("dpo", "H100").high > tokens_per_second("kto", "H100").high


def test_small_models_wait_for_their_steps() -> None:
    small = CATALOG["HuggingFaceTB/SmolLM2-135M-Instruct"].shape

    def gain(shape: ModelShape) -> float:
        slow, fast = (tokens_per_second("lora", card, shape=shape).high for card in ("L4", "H100"))
        return fast / slow

    assert gain(small) < 0.8 * gain(QWEN_8B)


def test_of_a_card_without_a_known_speed_nothing_is_said() -> None:
    work = Workload.of(run("Qwen/Qwen3-8B"), rows(10, tokens=100))
    assert trainer_seconds(QWEN_8B, work, CARDS["RTX-PRO-6000"]) is None


@pytest.mark.parametrize("method", ["full", "lora", "dpo", "kto", "embedding"])
def test_the_work_is_that_of_the_trainers_micro_batches(method: Method) -> None:
    long_rows = Workload.of(run("Qwen/Qwen3-8B", method, batch_size=64), rows(640, tokens=640 * 900))
    assert long_rows.steps == 30
    assert long_rows.tokens_at_once.high <= 16_384
    assert long_rows.accumulates == (method != "embedding")
    assert long_rows.passes >= long_rows.steps
