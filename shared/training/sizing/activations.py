"""What one block of a model keeps of a token between its forward and its backward pass.

Measured, not derived: the tensors that autograd saves were counted with torch 2.13, transformers 5.23 and
peft 0.21, each width of a small model varied in turn; the counts are linear in the widths without a rest.
`tests/modal_app/test_kept_bytes.py` counts them again. Scaled-dot-product attention under a mask, as packed
and padded rows have it: keys and values are then kept once for every query head.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.training.shapes import Family, ModelShape


class _Widths(NamedTuple):
    """Bytes a token for each unit of width."""

    hidden: float
    query: float
    key_value: float
    intermediate: float


# All weights in float32, computed with in bfloat16, as on a GPU.
_FULL: dict[Family, _Widths] = {
    "llama": _Widths(26, 8, 0, 8),
    "qwen2": _Widths(26, 8, 0, 8),
    "qwen3": _Widths(26, 14, 6, 8),
    "gemma3_text": _Widths(42, 16, 8, 8),
    "phi3": _Widths(22, 8, 0, 8),
    "bert": _Widths(28, 0, 0, 4),
}
# bfloat16 weights under float32 adapters, on a GPU; without dropout.
_ADAPTERS: dict[Family, _Widths] = {
    "llama": _Widths(18, 10, 0, 8),
    "qwen2": _Widths(18, 10, 0, 8),
    "qwen3": _Widths(18, 14, 4, 8),
    "gemma3_text": _Widths(26, 14, 4, 8),
    "phi3": _Widths(14, 8, 0, 8),
    "bert": _Widths(28, 0, 0, 4),
}
# Everything in float32, as on a CPU: all weights, and adapters without dropout.
_FULL_32: dict[Family, _Widths] = {
    "llama": _Widths(24, 16, 0, 16),
    "qwen2": _Widths(24, 16, 0, 16),
    "qwen3": _Widths(24, 24, 8, 16),
    "gemma3_text": _Widths(40, 24, 8, 16),
    "phi3": _Widths(28, 16, 0, 16),
    "bert": _Widths(40, 0, 0, 8),
}
_ADAPTERS_32: dict[Family, _Widths] = {
    "llama": _Widths(28, 20, 0, 16),
    "qwen2": _Widths(28, 20, 0, 16),
    "qwen3": _Widths(28, 24, 4, 16),
    "gemma3_text": _Widths(36, 24, 4, 16),
    "phi3": _Widths(20, 16, 0, 16),
    "bert": _Widths(40, 0, 0, 8),
}
# Blocks with several experts keep of each that a token meets what one feed-forward layer keeps.
_LIKE: dict[Family, Family] = {"mixtral": "llama", "qwen3_moe": "qwen3"}


def kept_bytes(shape: ModelShape, *, adapters: bool, on_gpu: bool, dropout: bool) -> float:
    """Bytes that one block keeps of one token. dropout: adapters drop some of what they read, and remember
    which: one byte for each value on a GPU, four on a CPU."""
    table = (_ADAPTERS if adapters else _FULL) if on_gpu else (_ADAPTERS_32 if adapters else _FULL_32)
    widths = table[_LIKE.get(shape.family, shape.family)]
    kept = (
        widths.hidden * shape.hidden
        + widths.query * shape.query
        + widths.key_value * shape.key_value
        + widths.intermediate * shape.intermediate * shape.experts_per_token
    )
    if adapters and dropout:
        kept += (1 if on_gpu else 4) * sum(inputs for inputs, _ in shape.adapted)
    return kept
