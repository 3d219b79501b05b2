"""The tokenizer and chat template of `fineflow/tiny`, from a corpus of our own: the same bytes every time.

A byte-level BPE that reads any language. Needs no torch, so the functions can build it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from shared.training.catalog import CATALOG, TINY

HERE = Path(__file__).parent
VOCABULARY_SIZE = 2048
CONTEXT_LENGTH_TOKENS = CATALOG[TINY].context_length
BOS, EOS, PAD = "<|endoftext|>", "<|im_end|>", "<|pad|>"
SPECIAL_TOKENS = [BOS, "<|im_start|>", EOS, PAD]


def tokenizer_recipe() -> list[object]:
    """Everything that decides the files of the tokenizer."""
    return [VOCABULARY_SIZE, SPECIAL_TOKENS, _text("corpus.txt"), _text("chat_template.jinja")]


def recipe_hash(recipe: list[object]) -> str:
    """The sha256 of a recipe, in hex."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def tiny_tokenizer(data_directory: Path) -> Path:
    """The directory of the tokenizer alone, with the facts of its model that concern tokens.

    Built first if it is not there, in about a second.
    """
    home = data_directory / "bases" / "fineflow--tiny-tokenizer"
    return built_once(home, recipe_hash(tokenizer_recipe()), _build)


def built_once(home: Path, recipe: str, build: Callable[[Path], None]) -> Path:
    """The directory in `home` that `build` filled, now or earlier.

    Safe beside other builders: each builds in its own directory, and the first to rename it wins.
    The name holds the hash of the recipe, so a changed recipe never alters a base that is in use.
    """
    finished = home / recipe[:16]
    if finished.is_dir():
        return finished
    home.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix="building-", dir=home))
    try:
        build(building)
        os.rename(building, finished)
    except OSError:
        if not finished.is_dir():  # nobody else was faster, so the disk said no
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return finished


def write_tokenizer(directory: Path) -> None:
    """tokenizer.json, tokenizer_config.json and chat_template.jinja lie there, as transformers reads them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

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
    bpe.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "model_max_length": CONTEXT_LENGTH_TOKENS,
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (directory / "chat_template.jinja").write_text(_text("chat_template.jinja"), encoding="utf-8")


def _build(directory: Path) -> None:
    write_tokenizer(directory)
    facts = {"max_position_embeddings": CONTEXT_LENGTH_TOKENS}
    (directory / "config.json").write_text(json.dumps(facts) + "\n")


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
