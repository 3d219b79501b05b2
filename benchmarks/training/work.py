"""A base model of random weights in the shape of a Llama, and conversations of everyday lengths."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from modal_app.tiny import tiny_base


@dataclass(frozen=True)
class Shape:
    """Of a Llama; the vocabulary is the tokenizer's unless one is given."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    vocab_size: int | None = None
    context_tokens: int = 4096


def write_base(path: Path, shape: Shape, *, dtype: str = "float32") -> None:
    """A model directory with the tokenizer of the tiny base: random weights of a fixed seed."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_base(path.parent))
    config = LlamaConfig(
        vocab_size=shape.vocab_size or len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=shape.vocab_size is None,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def write_rows(path: Path, count: int, *, words: tuple[float, float, int], seed: int) -> None:
    """Questions and answers cut from Python's documentation, one conversation a line.

    words: of an answer, as the median and spread of a log-normal distribution and the most; questions have a
    third of that. So lengths of chats are distributed: many short ones, and a few long ones.
    """
    median, spread, most = words
    rng = random.Random(seed)
    text = re.findall(r"[A-Za-z,.]+", " ".join(topics.values()))

    def said(length: float) -> str:
        size = max(3, min(most, round(rng.lognormvariate(0, spread) * length)))
        start = rng.randrange(len(text) - size)
        return " ".join(text[start : start + size])

    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            turns = [
                {"role": "user", "content": said(median / 3)},
                {"role": "assistant", "content": said(median)},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
