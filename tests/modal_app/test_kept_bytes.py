"""The bytes that a block keeps for its gradient, counted in the real libraries against the table."""

from __future__ import annotations

from typing import Any

import pytest

from modal_app.methods.attention import attend_within_rows
from modal_app.methods.lora import compute_lean
from shared.training.shapes import ModelShape, shape_of_config
from shared.training.sizing.activations import kept_bytes

TOKENS = 128
FAMILIES = ("llama", "qwen2", "qwen3", "gemma3_text", "phi3", "bert")
# Adapters on language models only: embeddings are trained in full.
CASES = [
    (family, adapters, masked)
    for family in FAMILIES
    for adapters in (True, False)
    for masked in (True, False)
    if (family != "bert" or not adapters) and (masked or family not in ("bert", "gemma3_text"))
]
# peft 0.21 reads a name that transformers 5.23 is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def shape_and_config(family: str) -> tuple[ModelShape, dict[str, Any]]:
    """A small model with widths that are unlike one another."""
    said: dict[str, Any] = {
        "hidden_size": 256,
        "num_attention_heads": 8,
        "intermediate_size": 704,
        "vocab_size": 64,
        "pad_token_id": 0,
    }
    if family == "bert":
        said |= {"attention_probs_dropout_prob": 0.0, "max_position_embeddings": 512, "type_vocab_size": 2}
    else:
        said |= {"num_key_value_heads": 2, "tie_word_embeddings": True}
    if family in ("qwen3", "gemma3_text"):
        said["head_dim"] = 48
    return shape_of_config(said | {"model_type": family, "num_hidden_layers": 1}), said


def counted(
    family: str,
    said: dict[str, Any],
    *,
    layers: int,
    adapters: bool,
    on_gpu: bool,
    dropout: bool,
    masked: bool,
) -> int:
    """Bytes of all tensors that autograd saves over a forward pass, weights and their copies aside."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    if family == "gemma3_text":
        said = said | {"layer_types": ["full_attention"] * layers}
    config = AutoConfig.for_model(family, num_hidden_layers=layers, **said)
    build = AutoModel if family == "bert" else AutoModelForCausalLM
    dtype = torch.bfloat16 if adapters and on_gpu else torch.float32
    model: Any = build.from_config(config, attn_implementation="sdpa").to(dtype)
    assert masked or attend_within_rows(model)
    if adapters:
        lora = LoraConfig(
            r=4, lora_dropout=0.05 if dropout else 0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, lora)
        model.enable_input_require_grads()
        compute_lean(model)
    model.train()
    body = model.base_model.model.model if adapters else model if family == "bert" else model.model
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, tuple[int, Any]] = {}  # the tensor is held, so that no other takes its place

    def note(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    inputs: dict[str, Any] = {"input_ids": torch.ones((1, TOKENS), dtype=torch.long)}
    if family != "bert":  # two rows on one line, which a mask or their beginnings keep apart
        inputs |= {"position_ids": torch.arange(TOKENS // 2).repeat(2)[None], "use_cache": False}
    if not masked:
        begins = torch.tensor([0, TOKENS // 2, TOKENS], dtype=torch.int32)
        inputs |= {"cu_seq_lens_q": begins, "max_length_q": TOKENS // 2}
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=on_gpu)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast:
        body(**inputs)
    return sum(size for size, _ in saved.values())


@pytest.mark.parametrize("on_gpu", [True, False], ids=["mixed", "float32"])
@pytest.mark.parametrize(("family", "adapters", "masked"), CASES)
def test_the_table_says_what_autograd_saves(family: str, on_gpu: bool, adapters: bool, masked: bool) -> None:
    shape, said = shape_and_config(family)
    options = {"adapters": adapters, "on_gpu": on_gpu, "dropout": not on_gpu, "masked": masked}
    block = counted(family, said, layers=2, **options) - counted(family, said, layers=1, **options)
    # 16-bit copies of the weights are no activations; nor is the mask, or the few numbers a token and head.
    copies = 0 if adapters or not on_gpu else 2 * shape.linear_parameters
    assert (block - copies) / TOKENS == pytest.approx(kept_bytes(shape, **options), rel=0.1)
