"""Builds the offline base model `fineflow/tiny` from a corpus of our own and a fixed seed.

It knows nothing, but it has all that a real base model has: a byte-level BPE tokenizer that reads any
language, a chat template with an end-of-turn token, and a Llama of about 0.6 million random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.training.tiny import tokenizer
from shared.training.tiny.tokenizer import CONTEXT_LENGTH_TOKENS, built_once, tokenizer_recipe

SEED = 0
ARCHITECTURE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LENGTH_TOKENS,
    "tie_word_embeddings": True,
    "initializer_range": 0.08,  # the usual 0.02 is for wide models; here it took 2.5 times the epochs
}


def tiny_base(data_directory: Path) -> Path:
    """The directory of the tiny base model, built first if it is not there: see `built_once`."""
    return built_once(data_directory / "bases" / "fineflow--tiny", recipe_hash(), _build)


def recipe_hash() -> str:
    """The sha256 of everything that decides the files of the base."""
    return tokenizer.recipe_hash([ARCHITECTURE, SEED, *tokenizer_recipe()])


def _build(directory: Path) -> None:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer.write_tokenizer(directory)
    written = AutoTokenizer.from_pretrained(directory)
    config = LlamaConfig(
        vocab_size=len(written),
        bos_token_id=written.bos_token_id,
        eos_token_id=written.eos_token_id,
        pad_token_id=written.pad_token_id,
        **ARCHITECTURE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
