"""The servable model that a run leaves behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modal_app import hardware
from modal_app.session.directory import RunDirectory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save(directory: RunDirectory, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """`artifact/` is a whole model with its tokenizer afterwards. Returns its bytes.

    LoRA adapters are kept in `adapter/` and merged into the artifact, so that it is served like any model.
    """
    from peft import PeftModel

    if isinstance(model, PeftModel):
        with _replacing(directory.adapter) as draft:
            model.save_pretrained(draft)
        model = model.merge_and_unload()
    with _replacing(directory.artifact) as draft:
        module: torch.nn.Module = model  # whose `to` is typed
        module.to(hardware.saved_dtype())
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    return sum(path.stat().st_size for path in directory.artifact.rglob("*") if path.is_file())


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A directory to write in that takes the place of `target` when all went well."""
    draft = target.with_name(f"{target.name}.saving")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    yield draft
    shutil.rmtree(target, ignore_errors=True)
    os.rename(draft, target)
