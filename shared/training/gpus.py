"""Which GPU a run fits on and how long it takes there: arithmetic, in ranges.

Nothing here was measured on these cards. The formulas are the usual ones and say where they come from;
the shares of the peak are wide enough for small models and short rows, which fill no card.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.training.config import ADAPTERS, Method


@dataclass(frozen=True)
class Card:
    """One GPU, by its maker's data sheet."""

    memory_bytes: int
    flops: float | None  # dense 16-bit matrix operations a second; None: we have no figure to trust
    has_bfloat16: bool = True  # what our trainer computes in


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included."""

    low: float
    high: float


CARDS: dict[str, Card] = {
    "T4": Card(16 * 10**9, 65e12, has_bfloat16=False),
    "L4": Card(24 * 10**9, 121e12),
    "A10": Card(24 * 10**9, 125e12),
    "L40S": Card(48 * 10**9, 362e12),
    "A100-40GB": Card(40 * 10**9, 312e12),
    "A100-80GB": Card(80 * 10**9, 312e12),
    "RTX-PRO-6000": Card(96 * 10**9, None),
    "H100": Card(80 * 10**9, 989e12),
    "H200": Card(141 * 10**9, 989e12),
    "B200": Card(180 * 10**9, 2250e12),
}

# Floating point operations a parameter and token: 2 forward and 4 backward (Kaplan et al. 2020, arXiv
# 2001.08361), 2 more to compute activations again instead of keeping them, as our trainer does on a GPU.
# LoRA computes no gradient of the frozen weights, which saves 2; QLoRA unpacks its 4 bits each time they are
# read, for which nothing is added here. DPO reads each pair once more with the model as it was: 2. KTO does
# that too, and reads each prompt with another row's answer in both: 6. Tokens are those of all answers.
_FLOPS_PER_PARAMETER_TOKEN: dict[Method, float] = {
    "full": 8.0,
    "lora": 6.0,
    "qlora": 6.0,
    "dpo": 8.0,
    "orpo": 6.0,
    "kto": 12.0,
    "embedding": 8.0,
}
_SHARE_OF_PEAK = Range(0.10, 0.45)  # 0.35 to 0.45 is usual for well-filled cards; the rest is for padding
_STEP_SECONDS = Range(0.05, 0.5)  # an optimiser step takes this long however little is in it
# A container that starts, and the model that comes at 0.2 to 1 GB a second, 2 bytes a parameter.
_START_SECONDS = Range(30.0, 300.0)
_LOAD_BYTES_PER_SECOND = Range(0.2e9, 1e9)

# All weights: float32 weights, gradients and two Adam moments (16 bytes). Adapters: bfloat16 weights (2
# bytes), or for QLoRA 4 bits with their scales (0.52 bytes) but 2 bytes for embeddings, together 0.66 to 0.92
# for models of 8 to 0.5 billion parameters; and 16 bytes for each adapter parameter. Adapters and activations
# grow with the root of the parameters: fitted within 15 % to the layer-by-layer sums of Llama-3.1-8B,
# Qwen3-4B and Qwen2.5-0.5B.
_FROZEN_BYTES, _QUANTISED_BYTES, _TRAINED_BYTES = 2, 0.8, 16
_ADAPTER_PARAMETERS_PER_RANK_AND_ROOT = 30
_ACTIVATION_BYTES_PER_TOKEN_AND_ROOT = 7
_LOSS_BYTES = 0.8e9  # the tile of logits that is held at a time
_CONTEXT_BYTES = 1e9  # CUDA and its libraries
_ALLOCATOR_SLACK = 1.06
_MICRO_BATCH_TOKENS = 16_384  # the most that our trainer passes at once


def duration_seconds(
    parameters: int, method: Method, card: Card, *, cards: int, tokens: int, steps: int
) -> Range | None:
    """From the first second that is billed to the last; None: the speed of the card is not known."""
    if card.flops is None:
        return None
    work = _FLOPS_PER_PARAMETER_TOKEN[method] * parameters * tokens / (card.flops * cards)
    weights = _FROZEN_BYTES * parameters
    return Range(
        _START_SECONDS.low
        + weights / _LOAD_BYTES_PER_SECOND.high
        + max(work / _SHARE_OF_PEAK.high, steps * _STEP_SECONDS.low),
        _START_SECONDS.high
        + weights / _LOAD_BYTES_PER_SECOND.low
        + max(work / _SHARE_OF_PEAK.low, steps * _STEP_SECONDS.high),
    )


def memory_bytes(
    parameters: int, method: Method, *, lora_r: int, step_tokens: int, longest_step_tokens: int
) -> Range:
    """What the card must hold: with the average row in every place of the batch, and with the longest."""
    root = math.sqrt(parameters)
    if method in ADAPTERS:
        adapters = _ADAPTER_PARAMETERS_PER_RANK_AND_ROOT * lora_r * root
        frozen = _QUANTISED_BYTES if method == "qlora" else _FROZEN_BYTES
        held = parameters * frozen + adapters * _TRAINED_BYTES
    else:
        held = parameters * _TRAINED_BYTES

    def total(tokens: int) -> float:
        activations = _ACTIVATION_BYTES_PER_TOKEN_AND_ROOT * root * min(tokens, _MICRO_BATCH_TOKENS)
        return _ALLOCATOR_SLACK * (held + activations + _LOSS_BYTES) + _CONTEXT_BYTES

    return Range(total(step_tokens), total(max(step_tokens, longest_step_tokens)))
