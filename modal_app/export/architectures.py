"""Which architectures are written as GGUF here, and how their tensors are called there.

Names and meanings: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md). An architecture is listed
only if llama.cpp computes the very same from these tensors; what a model has beside them refuses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modal_app.export.refusal import ExportRefused

CONVERTER_HINT = (
    "Export it as 'merged' and convert that with convert_hf_to_gguf.py of llama.cpp, which knows more models."
)
_BLOCK = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_QKV_BIASES = {f"self_attn.{part}_proj.bias": f"attn_{part}.bias" for part in "qkv"}
_QK_NORMS = {f"self_attn.{part}_norm.weight": f"attn_{part}_norm.weight" for part in "qk"}


@dataclass(frozen=True)
class Architecture:
    """A family of models that differ in size alone."""

    name: str  # general.architecture
    block: dict[str, str]  # names within a layer, there and here
    interleaves: bool  # llama.cpp rotates neighbours where transformers rotates halves


_ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("llama", _BLOCK, interleaves=True),
    "Qwen2ForCausalLM": Architecture("qwen2", _BLOCK | _QKV_BIASES, interleaves=False),
    "Qwen3ForCausalLM": Architecture("qwen3", _BLOCK | _QK_NORMS, interleaves=False),
}


def architecture_of(config: Any) -> Architecture:
    """The architecture of a model's configuration. Raises ExportRefused for what is not certain."""
    name = (config.architectures or ["unknown"])[0]
    known = _ARCHITECTURES.get(name)
    if known is None:
        raise ExportRefused(
            f"{name} is not written as GGUF here; {', '.join(_ARCHITECTURES)} are. {CONVERTER_HINT}"
        )
    rope = rope_of(config)
    unusual = {
        f"activation {config.hidden_act}": config.hidden_act != "silu",
        "a sliding window": getattr(config, "sliding_window", None) is not None,
        f"{rope['rope_type']} rotary positions": rope["rope_type"] not in ("default", "llama3"),
        "partly rotated heads": rope.get("partial_rotary_factor", 1) != 1,
    }
    if found := next((what for what, is_so in unusual.items() if is_so), None):
        raise ExportRefused(f"This {name} has {found}, which is not written as GGUF here. {CONVERTER_HINT}")
    return known


def tensor_names(architecture: Architecture, config: Any) -> dict[str, str]:
    """Each tensor that the model must have, by its name there, with its name in GGUF."""
    names = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if not config.tie_word_embeddings:
        names["lm_head.weight"] = "output.weight"
    for layer in range(config.num_hidden_layers):
        for theirs, ours in architecture.block.items():
            names[f"model.layers.{layer}.{theirs}"] = f"blk.{layer}.{ours}"
    return names


def rotated_heads(architecture: Architecture, gguf_name: str, config: Any) -> int | None:
    """How many heads of this tensor's rows are to be interleaved; None: its rows stay as they are."""
    if not architecture.interleaves:
        return None
    if gguf_name.endswith("attn_q.weight"):
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if gguf_name.endswith("attn_k.weight") else None


def head_dimension(config: Any) -> int:
    """Numbers a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rope_of(config: Any) -> dict[str, Any]:
    """The rotary positions: `rope_type`, `rope_theta`, and what the type needs."""
    return {"rope_type": "default", "rope_theta": 10_000.0, **(config.rope_parameters or {})}


def rope_factors(config: Any) -> list[float] | None:
    """By what each frequency is divided, half a head long; None: by nothing.

    Llama 3.1's rule: low frequencies are stretched, high ones kept, those between blended
    (`_compute_llama3_parameters` of transformers).
    """
    rope = rope_of(config)
    if rope["rope_type"] != "llama3":
        return None
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    trained_length, width = rope["original_max_position_embeddings"], head_dimension(config)
    factors = []
    for index in range(0, width, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (index / width)
        kept = min(max((trained_length / wavelength - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - kept) / factor + kept))
    return factors
