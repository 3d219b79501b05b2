"""The model as one GGUF file, which llama.cpp, Ollama and LM Studio read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from modal_app.export.architectures import (
    CONVERTER_HINT,
    Architecture,
    architecture_of,
    head_dimension,
    rope_factors,
    rope_of,
    rotated_heads,
    tensor_names,
)
from modal_app.export.finished import FinishedModel, Progress, Weights
from modal_app.export.refusal import ExportRefused
from modal_app.export.turns import opens_with_bos
from modal_app.export.vocabulary import vocabulary_of

if TYPE_CHECKING:
    import gguf
    import numpy as np
    import torch

Quantization = Literal["f32", "f16", "q8_0"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)
ROPE_FACTORS = "rope_freqs.weight"


def write_gguf(
    model: FinishedModel, target: Path, quantization: Quantization, *, name: str, progress: Progress
) -> int:
    """`target` holds the model afterwards, whole or not at all. Returns its bytes.

    f16, q8_0: how matrices are held; norms and biases are float32 always, and so is a matrix whose rows are
    no multiple of the 32 numbers that q8_0 takes at a time held as f16. One tensor is in memory at a time.
    name: shown by programs that list models. Raises ExportRefused.
    """
    import gguf

    architecture = architecture_of(model.config)
    draft = target.with_name(f"{target.name}.saving")
    writer = gguf.GGUFWriter(draft, architecture.name)
    try:
        with Weights(model.artifact) as weights:
            names = _checked_names(architecture, model.config, weights)
            _describe(writer, model, name=name, quantization=quantization)
            _write_tensors(writer, model.config, architecture, weights, names, quantization, progress)
        writer.close()
        os.replace(draft, target)
    finally:
        writer.close()
        draft.unlink(missing_ok=True)
    return target.stat().st_size


def _checked_names(architecture: Architecture, config: Any, weights: Weights) -> dict[str, str]:
    expected, found = tensor_names(architecture, config), set(weights.names)
    if config.tie_word_embeddings:
        found.discard("lm_head.weight")
    if strange := sorted(found ^ expected.keys()):
        lacks = "lacks" if strange[0] in expected else "has"
        raise ExportRefused(
            f"The model {lacks} {strange[0]}, so it is no plain {architecture.name}. {CONVERTER_HINT}"
        )
    return expected


def _describe(
    writer: gguf.GGUFWriter, model: FinishedModel, *, name: str, quantization: Quantization
) -> None:
    import gguf

    config, tokenizer = model.config, model.tokenizer
    rope, width = rope_of(config), head_dimension(config)
    writer.add_name(name)
    writer.add_file_type(
        {
            "f32": gguf.LlamaFileType.ALL_F32,
            "f16": gguf.LlamaFileType.MOSTLY_F16,
            "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
        }[quantization]
    )
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope["rope_theta"]))

    vocabulary = vocabulary_of(tokenizer, config.vocab_size)
    kinds = gguf.TokenType
    writer.add_tokenizer_model("gpt2")  # the name of byte-level BPE
    writer.add_tokenizer_pre(vocabulary.pre_tokenizer)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(
        [
            kinds.CONTROL
            if index in vocabulary.control
            else kinds.USER_DEFINED
            if index in vocabulary.added
            else kinds.UNUSED
            if index in vocabulary.unused
            else kinds.NORMAL
            for index in range(config.vocab_size)
        ]
    )
    writer.add_token_merges(vocabulary.merges)
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            add(token)
    # Readers put it before every text, and a chat template that begins with it does not double it there.
    writer.add_add_bos_token(opens_with_bos(tokenizer))
    writer.add_chat_template(_templates(tokenizer.chat_template))


def _templates(template: Any) -> str | list[dict[str, str]]:
    """As GGUF holds one, or several by name."""
    if isinstance(template, dict):
        return [{"name": name, "template": one} for name, one in template.items()]
    return str(template)


def _write_tensors(
    writer: gguf.GGUFWriter,
    config: Any,
    architecture: Architecture,
    weights: Weights,
    names: dict[str, str],
    quantization: Quantization,
    progress: Progress,
) -> None:
    import gguf
    import numpy as np

    types = {theirs: _type(weights.shape(theirs), quantization) for theirs in names}
    sizes = {theirs: _bytes(weights.shape(theirs), types[theirs]) for theirs in names}
    factors = rope_factors(config)
    if factors:
        writer.add_tensor_info(
            ROPE_FACTORS,
            [len(factors)],
            np.dtype(np.float32),
            4 * len(factors),
            gguf.GGMLQuantizationType.F32,
        )
    for theirs, ours in names.items():
        writer.add_tensor_info(
            ours, weights.shape(theirs), np.dtype(np.float32), sizes[theirs], raw_dtype=types[theirs]
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors:
        writer.write_tensor_data(np.array(factors, dtype=np.float32))
    written, total = 0, sum(sizes.values())
    for theirs, ours in names.items():
        heads = rotated_heads(architecture, ours, config)
        writer.write_tensor_data(_numbers(theirs, weights.read(theirs), types[theirs], heads))
        written += sizes[theirs]
        progress(written, total)


def _type(shape: tuple[int, ...], quantization: Quantization) -> gguf.GGMLQuantizationType:
    import gguf

    types = gguf.GGMLQuantizationType
    if len(shape) == 1 or quantization == "f32":
        return types.F32
    fits = quantization == "q8_0" and shape[-1] % gguf.GGML_QUANT_SIZES[types.Q8_0][0] == 0
    return types.Q8_0 if fits else types.F16


def _bytes(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> int:
    import gguf

    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    count = 1
    for length in shape:
        count *= length
    return count // block * block_bytes


def _numbers(
    name: str, tensor: torch.Tensor, kind: gguf.GGMLQuantizationType, heads: int | None
) -> np.ndarray[Any, Any]:
    import gguf
    import numpy as np

    values = tensor.float().numpy()
    if heads is not None:
        halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused below
        made = gguf.quants.quantize(values, kind)
    if not np.isfinite(values if kind == gguf.GGMLQuantizationType.Q8_0 else made).all():
        raise ExportRefused(
            f"{name} has numbers that {kind.name} cannot hold. Export it as f32, or train anew."
        )
    return cast("np.ndarray[Any, Any]", made)
