"""A model that was really trained, and models of other architectures with weights by chance."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from modal_app.export.finished import FinishedModel
from modal_app.export.gguf_file import Quantization, write_gguf
from shared.training.spec import TrainerExit
from tests.modal_app import trainers
from tests.modal_app.measures import elsewhere
from tests.modal_app.trainers import Trainer

TAUGHT = trainers.facts(24)
Export = Callable[[Path, Path, Quantization], int]


@pytest.fixture(scope="session")
def taught(start: Callable[[Path], Trainer], new_run: Callable[..., Path]) -> Path:
    """The directory of a run that learned TAUGHT with adapters."""
    run_dir = new_run(TAUGHT, method="lora", epochs=30)
    assert start(run_dir).wait(150) == TrainerExit.COMPLETED
    return run_dir


@pytest.fixture(scope="session")
def export(libraries: ForkServerContext) -> Export:
    """Writes the model of a run directory as GGUF; its bytes."""

    def run(run_dir: Path, target: Path, quantization: Quantization) -> int:
        size: int = elsewhere(libraries, _export, run_dir, target, quantization)
        return size

    return run


def _export(run_dir: Path, target: Path, quantization: Quantization) -> int:
    model = FinishedModel.at(run_dir)
    return write_gguf(model, target, quantization, name="tuned", progress=_ignored)


def _ignored(written: int, total: int) -> None:
    assert 0 < written <= total


def stranger(directory: Path, architecture: str, cuts: list[Any], **config: Any) -> None:
    """`directory` is a run that left a small model of this architecture, its weights by chance.

    cuts: how its tokenizer cuts text into words, as tokenizer.json says it.
    """
    import json

    import torch
    import transformers
    from transformers import AutoTokenizer

    from modal_app.tiny import tiny_base

    artifact = directory / "artifact"
    base = tiny_base(directory.parent)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(artifact)
    written = json.loads((artifact / "tokenizer.json").read_text())
    written["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": cuts}
    (artifact / "tokenizer.json").write_text(json.dumps(written))
    sizes = {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "vocab_size": 2050}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    made = getattr(transformers, f"{architecture}Config")(
        **(sizes | heads | config), initializer_range=0.2, bos_token_id=0, eos_token_id=2, pad_token_id=3
    )
    torch.manual_seed(1)
    model = getattr(transformers, f"{architecture}ForCausalLM")(made)
    with torch.no_grad():  # biases and norms begin as zeros and ones, which would hide that they are lost
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) / 5)
    model.save_pretrained(artifact)
