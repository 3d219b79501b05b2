"""The servable model that a run leaves behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.base import load, plain_template
from modal_app.session.directory import RunDirectory
from shared.training.spec import RunSpec

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save(
    directory: RunDirectory,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: RunSpec,
    *,
    weights: dict[str, torch.Tensor] | None = None,
) -> int:
    """`artifact/` is a whole model with its tokenizer afterwards. Returns its bytes.

    Adapters are kept in `adapter/` and merged into the artifact, so that it is served like any model. The
    template is saved without the marks that only trainers read. weights: those of a model that is sharded;
    None: it has its own.
    """
    from peft import PeftModel

    if isinstance(model, PeftModel):
        with replacing(directory.adapter) as draft:
            model.save_pretrained(draft)
        if spec.method == "qlora":
            model = _on_whole_weights(spec, directory)
        model = model.merge_and_unload()
    with replacing(directory.artifact) as draft:
        if weights is None:
            module: torch.nn.Module = model  # whose `to` is typed
            module.to(hardware.saved_dtype())
        else:
            weights = {name: tensor.to(hardware.saved_dtype()) for name, tensor in weights.items()}
            model.config.dtype = hardware.saved_dtype()
        model.save_pretrained(draft, state_dict=weights)
        tokenizer.chat_template = _plain(tokenizer.chat_template)
        tokenizer.save_pretrained(draft)
    return size_bytes(directory.artifact)


def _plain(template: Any) -> Any:
    """A chat template, or each of several by name, without the marks of trainers."""
    if isinstance(template, dict):
        return {name: plain_template(one) for name, one in template.items()}
    return plain_template(template)


def size_bytes(directory: Path) -> int:
    """Of all files in it."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _on_whole_weights(spec: RunSpec, directory: RunDirectory) -> PeftModel:
    """The adapters on the base model as it was published: merged into 4 bits they would be rounded away."""
    from peft import PeftModel

    base = load(directory.base_source(spec), spec.base_revision, dtype=hardware.saved_dtype())
    return PeftModel.from_pretrained(base.model, str(directory.adapter))


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A directory to write in that takes the place of `target` when all went well."""
    draft = target.with_name(f"{target.name}.saving")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    yield draft
    shutil.rmtree(target, ignore_errors=True)
    os.rename(draft, target)
