"""What one block of a model keeps of a token between its forward and its backward pass.

Measured, not derived: the tensors that autograd saves were counted with torch 2.13, transformers 5.23, peft
0.21 and our own adapters and attention, each width of a small model varied in turn; the counts are linear in
the widths without a rest. `tests/modal_app/test_kept_bytes.py` counts them again.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.training.config import SUPERVISED, Method
from shared.training.shapes import Family, ModelShape


class _Widths(NamedTuple):
    """Bytes a token for each unit of width."""

    hidden: float
    query: float
    key_value: float
    intermediate: float


# All weights in float32, computed with in bfloat16, as on a GPU.
_FULL: dict[Family, _Widths] = {
    "llama": _Widths(26, 6, 4, 8),
    "qwen2": _Widths(26, 6, 4, 8),
    "qwen3": _Widths(26, 12, 10, 8),
    "gemma3_text": _Widths(42, 14, 12, 8),
    "phi3": _Widths(20, 8, 6, 8),
    "bert": _Widths(28, 0, 0, 4),
}
# bfloat16 weights under float32 adapters, on a GPU; without dropout.
_ADAPTERS: dict[Family, _Widths] = {
    "llama": _Widths(12, 6, 4, 8),
    "qwen2": _Widths(12, 6, 4, 8),
    "qwen3": _Widths(12, 10, 8, 8),
    "gemma3_text": _Widths(20, 10, 8, 8),
    "phi3": _Widths(12, 8, 6, 8),
    "bert": _Widths(28, 0, 0, 4),
}
# Everything in float32, as on a CPU: all weights, and adapters without dropout.
_FULL_32: dict[Family, _Widths] = {
    "llama": _Widths(24, 12, 8, 16),
    "qwen2": _Widths(24, 12, 8, 16),
    "qwen3": _Widths(24, 20, 16, 16),
    "gemma3_text": _Widths(40, 20, 16, 16),
    "phi3": _Widths(24, 16, 12, 16),
    "bert": _Widths(40, 0, 0, 8),
}
_ADAPTERS_32: dict[Family, _Widths] = {
    "llama": _Widths(16, 12, 8, 16),
    "qwen2": _Widths(16, 12, 8, 16),
    "qwen3": _Widths(16, 16, 12, 16),
    "gemma3_text": _Widths(24, 16, 12, 16),
    "phi3": _Widths(16, 16, 12, 16),
    "bert": _Widths(40, 0, 0, 8),
}
# More under a mask of tokens by tokens: keys and values are then kept once for every query head, and the
# copy that joins the rows of a line is not made.
_UNDER_A_MASK, _UNDER_A_MASK_32 = _Widths(0, 2, -4, 0), _Widths(0, 4, -8, 0)
# See modal_app/methods/attention.py.
_WITHOUT_WITHIN_ROWS: frozenset[Family] = frozenset({"gemma3_text", "bert"})
# Blocks with several experts keep of each that a token meets what one feed-forward layer keeps.
_LIKE: dict[Family, Family] = {"mixtral": "llama", "qwen3_moe": "qwen3"}


def is_masked(shape: ModelShape, method: Method) -> bool:
    """Whether rows are kept apart by a mask of tokens by tokens, where a supervised run packs its rows."""
    return method not in SUPERVISED or shape.family in _WITHOUT_WITHIN_ROWS


def kept_bytes(shape: ModelShape, *, adapters: bool, on_gpu: bool, dropout: bool, masked: bool) -> float:
    """Bytes that one block keeps of one token, the mask itself aside.

    dropout: adapters drop some of what they read. Each keeps which it was and a copy of the rest, where
    without it those that read the same keep that once.
    """
    table = (_ADAPTERS if adapters else _FULL) if on_gpu else (_ADAPTERS_32 if adapters else _FULL_32)
    widths = table[_LIKE.get(shape.family, shape.family)]
    more = _Widths(0, 0, 0, 0)
    if masked and shape.family != "bert":
        more = _UNDER_A_MASK if on_gpu else _UNDER_A_MASK_32
    kept = (
        widths.hidden * shape.hidden
        + (widths.query + more.query) * shape.query
        + (widths.key_value + more.key_value) * shape.key_value
        + widths.intermediate * shape.intermediate * shape.experts_per_token
    )
    if adapters and dropout:
        which, copy = (1, 2) if on_gpu else (4, 4)
        read = 2 * shape.hidden + shape.query + shape.intermediate * shape.experts_per_token
        kept += (which + copy) * sum(inputs for inputs, _ in shape.adapted) - copy * read
    return kept
