"""How long a run takes on a GPU: operations, bytes moved, and what each step costs however small it is."""

from __future__ import annotations

from shared.training.config import ADAPTERS, Method
from shared.training.shapes import ModelShape
from shared.training.sizing.activations import is_masked, kept_bytes
from shared.training.sizing.gpus import Card, Range
from shared.training.sizing.workload import Workload

# Times that a token passes through all blocks, a forward pass being 1 (2 operations a weight, Kaplan et al.
# 2020, arXiv 2001.08361). Backward is 2, without gradients of frozen weights 1; on a GPU the blocks are
# computed again, which is 1 more, but for embeddings. DPO reads each pair once more with the model as it
# was. KTO does that too, and reads each prompt with another row's answer in both.
_PASSES: dict[Method, float] = {
    "full": 4.0,
    "lora": 3.0,
    "qlora": 3.0,
    "dpo": 4.0,
    "orpo": 3.0,
    "kto": 6.0,
    "embedding": 3.0,
}
# Attention is two products: under a mask every token meets the whole line, within a row half of it. Backward
# costs 2.5 forward passes (Dao 2023, arXiv 2307.08691, section 3.1).
_ATTENTION_BACKWARD = 2.5
# Of the peak, in the matrix products alone; 0.75 is what large bfloat16 products reach, 0.4 small ones.
_SHARE_OF_PEAK = Range(0.40, 0.75)
_SHARE_OF_BANDWIDTH = Range(0.5, 0.8)
_TOUCHES = Range(4.0, 8.0)  # times that what a block keeps is written or read, over all passes
_LAUNCH_SECONDS = Range(0.4e-3, 2.5e-3)  # a block in one pass, however little is in it
_STEP_SECONDS = Range(0.01, 0.2)  # the loop around an optimiser step
_ADAM_BYTES = 28  # a trained parameter: gradient and weight and both moments read, three of them written
# Weights that come, and a model that is written: 2 bytes a parameter each.
_FILE_BYTES_PER_SECOND = Range(0.2e9, 1e9)
START_SECONDS = Range(30.0, 300.0)  # a container that is billed before our trainer runs in it


def flops_per_token(shape: ModelShape, method: Method, width: float, *, recomputes: bool = True) -> float:
    """Operations for one token in a line of `width` tokens, over all passes. recomputes: blocks are computed
    again in the backward pass, as they are on a GPU."""
    passes = _PASSES[method] - (0 if recomputes or method == "embedding" else 1)
    attention = (4 if is_masked(shape, method) else 2) * shape.layers * shape.query * width
    forward = passes - (1 if method in ADAPTERS else 2)
    return passes * 2 * shape.matmul_parameters + (forward + _ATTENTION_BACKWARD) * attention


def trainer_seconds(shape: ModelShape, work: Workload, card: Card, *, cards: int = 1) -> Range | None:
    """From the first moment of the trainer to its last: the model comes, is trained, and is written.

    None: the speed of the card is not known.
    """
    if card.flops is None:
        return None
    flops, bandwidth = card.flops * cards, card.bytes_per_second * cards
    files = 2 * 2 * shape.parameters  # the base model in, the tuned one out
    return Range(
        files / _FILE_BYTES_PER_SECOND.high + _loop(shape, work, flops, bandwidth, fast=True),
        files / _FILE_BYTES_PER_SECOND.low + _loop(shape, work, flops, bandwidth, fast=False),
    )


def _loop(shape: ModelShape, work: Workload, flops: float, bandwidth: float, *, fast: bool) -> float:
    def end(of: Range, *, best_is_high: bool = False) -> float:
        return of.high if fast == best_is_high else of.low

    adapts = work.method in ADAPTERS
    tokens = work.tokens * end(work.padding)
    speed = flops * end(_SHARE_OF_PEAK, best_is_high=True)
    bandwidth *= end(_SHARE_OF_BANDWIDTH, best_is_high=True)
    kept = kept_bytes(
        shape,
        adapters=adapts,
        on_gpu=True,
        dropout=work.config.lora_dropout > 0,
        masked=is_masked(shape, work.method),
    )
    moved = tokens * shape.layers * kept * end(_TOUCHES)
    if work.method == "qlora":  # read in 4 bits and written in 16, each time that they are needed
        moved += work.passes * _PASSES[work.method] * shape.linear_parameters * 2.5
    busy = tokens * flops_per_token(shape, work.method, end(work.width)) / speed + moved / bandwidth
    launched = work.passes * shape.layers * _PASSES[work.method] / 3 * end(_LAUNCH_SECONDS)
    trained = shape.adapter_parameters(work.config.lora_r) if adapts else shape.parameters
    optimizer = work.steps * (end(_STEP_SECONDS) + trained * _ADAM_BYTES / bandwidth)
    return max(busy, launched) + optimizer
