"""What a device must hold while our trainer works, part by part.

Weights, gradients and Adam's two moments follow from the number of parameters; activations from the bytes
that each block keeps of a token (`activations`). On a GPU the trainer keeps only the input of each block and
computes the rest again, so the moments at which memory is fullest are three: when the forward pass ends, when
the loss is taken back, and when the backward pass is inside one block. The largest of the three counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from shared.training.config import ADAPTERS, Method
from shared.training.shapes import ModelShape
from shared.training.sizing.activations import is_masked, kept_bytes

_FLOAT32, _BFLOAT16 = 4, 2
# NF4 with double quantisation: 4 bits, and 0.127 bits of scales (Dettmers et al. 2023, section 3).
_FOUR_BIT = (4 + 0.127) / 8
_ADAM_MOMENTS = 2
# TRL 1.16 never holds all logits: tiles of so many tokens by so many words (trl/kernels/chunked_logprob.py).
_TILE_TOKENS, _TILE_WORDS = 4_096, 32_768
_SMALL_VOCABULARY = 8_192  # up to which all logits are held on a CPU: modal_app/methods/sft.py
_CPU_TILE_COPIES = 5  # what the torch code of the tile makes where there is no Triton
_MASK_BYTES = 3  # a token and token: as it is kept, and as the kernel wants it
_CONTEXT_BYTES = 1e9  # CUDA and its libraries: not counted by torch
# What torch's allocator keeps beyond what is used: little beside weights that stay, more beside tensors that
# come and go. Not measured.
_SLACK_OF_HELD, _SLACK_OF_PASSING = 0.01, 0.15
_PROCESS_BYTES = 450e6  # an interpreter with torch and transformers loaded, measured


@dataclass(frozen=True)
class Memory:
    """Bytes at the fullest moment."""

    weights: float
    adapters: float
    gradients: float
    optimizer: float
    activations: float
    loss: float
    allocator: float  # what is reserved and not used
    runtime: float  # what the libraries take before a tensor is made

    @property
    def total(self) -> float:
        return self.reserved + self.runtime

    @property
    def reserved(self) -> float:
        """What torch says that it has reserved, which is what a trainer reports."""
        parts = (self.weights, self.adapters, self.gradients, self.optimizer, self.activations, self.loss)
        return sum(parts) + self.allocator

    def as_json(self) -> dict[str, int]:
        """The parts in whole bytes; names are the same in every language."""
        return {name: round(value) for name, value in asdict(self).items()}


def gpu_memory(
    shape: ModelShape,
    method: Method,
    *,
    lora_r: int,
    dropout: bool,
    tokens: float,
    width: float,
    accumulates: bool = False,
    cards: int = 1,
) -> Memory:
    """On one GPU, with `tokens` passing at once in lines of up to `width`. accumulates: gradients of
    earlier passes lie there already. cards: that train the run together; of a full fine-tuning each holds
    its part of weights, gradients and moments (FSDP), and the block that it computes whole."""
    adapts = method in ADAPTERS
    parts_of = cards if method == "full" else 1
    adapters = shape.adapter_parameters(lora_r) if adapts else 0
    trained = adapters if adapts else shape.parameters
    gradients = _FLOAT32 * trained / parts_of
    masked = is_masked(shape, method)
    kept = kept_bytes(shape, adapters=adapts, on_gpu=True, dropout=dropout, masked=masked) * tokens
    mask = _MASK_BYTES * tokens * width if masked else 0
    widest = shape.intermediate * shape.experts_per_token * tokens * (8 if adapts else 4)  # working copies
    block = kept + widest + mask + _unpacked(shape, method)
    stream = shape.hidden * tokens * (_BFLOAT16 if adapts else _FLOAT32)  # between two blocks
    if method == "embedding":  # every block keeps all: the trainer checkpoints language models only
        moments = [(shape.layers * kept + widest, 0.0, gradients)]
    else:
        inputs = (shape.layers + 1) * stream
        tile = min(tokens, _TILE_TOKENS) * min(shape.vocabulary, _TILE_WORDS) * _BFLOAT16
        output = 2 * shape.hidden * tokens * _FLOAT32  # its gradient, and the last norm
        casts = 0.0 if adapts else _BFLOAT16 * shape.linear_parameters  # autocast keeps them until the end
        if parts_of > 1:  # no casts of its own: the next block and the vocabulary have come meanwhile
            casts = _BFLOAT16 * (shape.linear_parameters / shape.layers + shape.embedding_parameters)
        trained_output = 0 if adapts else shape.embedding_parameters * _FLOAT32
        before = gradients if accumulates or adapts else 0
        moments = [
            (inputs + casts, tile + output, before),
            (inputs, tile + output + trained_output / parts_of, before),
            # Gradients fill while the inputs are let go.
            (block + (inputs if before else max(0.0, inputs - gradients)), 0.0, gradients),
        ]
    activations, loss, gradients_then = max(moments, key=sum)
    parts = {
        "weights": _weights(shape, method, _FLOAT32 if not adapts else _BFLOAT16) / parts_of,
        "adapters": _FLOAT32 * adapters,
        "gradients": gradients_then,
        "optimizer": _ADAM_MOMENTS * _FLOAT32 * trained / parts_of,
        "activations": activations,
        "loss": loss,
    }
    passing = activations + loss
    slack = _SLACK_OF_HELD * (sum(parts.values()) - passing) + _SLACK_OF_PASSING * passing
    return Memory(**parts, allocator=slack, runtime=_CONTEXT_BYTES)


def cpu_memory(
    shape: ModelShape, method: Method, *, lora_r: int, dropout: bool, tokens: float, width: float
) -> Memory:
    """In the main memory of this machine: everything is float32, and every block keeps all."""
    adapts = method in ADAPTERS
    adapters = shape.adapter_parameters(lora_r) if adapts else 0
    trained = adapters if adapts else shape.parameters
    masked = is_masked(shape, method)
    kept = kept_bytes(shape, adapters=adapts, on_gpu=False, dropout=dropout, masked=masked) * tokens
    mask = _MASK_BYTES * tokens * width if masked else 0
    if shape.vocabulary <= _SMALL_VOCABULARY:
        loss = 3 * tokens * shape.vocabulary * _FLOAT32  # logits, their logarithms, their gradient
    else:
        tile = min(tokens, _TILE_TOKENS) * min(shape.vocabulary, _TILE_WORDS) * _FLOAT32
        loss = _CPU_TILE_COPIES * tile
    return Memory(
        weights=_weights(shape, method, _FLOAT32),
        adapters=_FLOAT32 * adapters,
        gradients=_FLOAT32 * trained,
        optimizer=_ADAM_MOMENTS * _FLOAT32 * trained,
        activations=shape.layers * (kept + mask) + _unpacked(shape, method),
        loss=loss if shape.answers else 0.0,
        allocator=0.0,
        runtime=_PROCESS_BYTES,
    )


def _weights(shape: ModelShape, method: Method, width: int) -> float:
    if method != "qlora":
        return width * shape.parameters
    rest = shape.parameters - shape.linear_parameters
    return _FOUR_BIT * shape.linear_parameters + width * rest


def _unpacked(shape: ModelShape, method: Method) -> float:
    """Copies of weights inside one block: 4 bits unpacked to 16, or all of them cast to 16."""
    if method == "qlora":
        return _BFLOAT16 * max(inputs * outputs for inputs, outputs in shape.linears)
    return 0.0 if method in ADAPTERS else _BFLOAT16 * shape.linear_parameters / shape.layers
