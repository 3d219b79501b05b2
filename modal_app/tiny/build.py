"""Builds the offline base model `fineflow/tiny` from a corpus of our own and a fixed seed.

It knows nothing, but it has all that a real base model has: a byte-level BPE tokenizer that reads any
language, a chat template with an end-of-turn token, and a Llama of about 0.6 million random weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
VOCABULARY_SIZE = 2048
CONTEXT_LENGTH_TOKENS = 1024
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
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]


def tiny_base(data_directory: Path) -> Path:
    """The directory of the tiny base model, built first if it is not there.

    Safe beside other builders: each builds in its own directory, and the first to rename it wins.
    The name holds a hash of the recipe, so a changed recipe never alters a base that is in use.
    """
    home = data_directory / "bases" / "fineflow--tiny"
    finished = home / recipe_hash()[:16]
    if finished.is_dir():
        return finished
    home.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="building-", dir=home))
    try:
        _build(building)
        os.rename(building, finished)
    except OSError:
        if not finished.is_dir():  # nobody else was faster, so the disk said no
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return finished


def recipe_hash() -> str:
    """The sha256 of everything that decides the files of the base."""
    recipe = [
        ARCHITECTURE,
        VOCABULARY_SIZE,
        SEED,
        SPECIAL_TOKENS,
        _text("corpus.txt"),
        _text("chat_template.jinja"),
    ]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _build(directory: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _train_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **ARCHITECTURE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _train_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # every byte is a token: no unknown text
        show_progress=False,
    )
    bpe.train_from_iterator(_text("corpus.txt").splitlines(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        model_max_length=CONTEXT_LENGTH_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _text("chat_template.jinja")
    return tokenizer
