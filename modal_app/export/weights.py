"""Weights as transformers and PEFT read them: the whole model in bfloat16, or the adapters alone."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

from modal_app.export.finished import FinishedModel, Progress, Weights
from modal_app.export.refusal import ExportRefused

_BESIDE = (
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_MORE_TEMPLATES = "additional_chat_templates"  # for rows with tools, of some base models
_OF_THIS_MACHINE = ("is_local", "local_files_only", "name_or_path", "_name_or_path")


def write_merged(model: FinishedModel, directory: Path, progress: Progress) -> None:
    """`directory` holds the whole model with its tokenizer, in bfloat16 and one file of safetensors."""
    with Weights(model.artifact) as weights:
        _write_bfloat16(weights, directory / "model.safetensors", progress)
    config = json.loads((model.artifact / "config.json").read_bytes())
    # The trainer's own setting would make every answer slow.
    _write_json(directory / "config.json", config | {"dtype": "bfloat16", "use_cache": True})
    _copy_beside(model, directory)


def write_adapter(model: FinishedModel, directory: Path, progress: Progress) -> None:
    """`directory` holds the adapters, the id of their base model, and the tokenizer. Raises ExportRefused."""
    if model.adapter is None:
        raise ExportRefused("All weights of this model were trained: there are no adapters. Take 'merged'.")
    if model.recipe.root_base_model is not None:
        raise ExportRefused(
            f"The adapters stand on {model.recipe.base_model}, a model of the project that nobody else has."
            " Take 'merged'."
        )
    base_model, base_revision = model.base
    config = json.loads((model.adapter / "adapter_config.json").read_bytes())
    config |= {"base_model_name_or_path": base_model, "revision": base_revision}
    _write_json(directory / "adapter_config.json", config)
    weights = model.adapter / "adapter_model.safetensors"
    shutil.copyfile(weights, directory / weights.name)
    progress(weights.stat().st_size, weights.stat().st_size)
    _copy_beside(model, directory)


def _write_bfloat16(weights: Weights, target: Path, progress: Progress) -> None:
    """Written by the format itself (github.com/huggingface/safetensors), which needs no tensor twice."""
    import torch

    sizes = {name: 2 * math.prod(weights.shape(name)) for name in weights.names}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, size in sizes.items():
        header[name] = {
            "dtype": "BF16",
            "shape": weights.shape(name),
            "data_offsets": [end, end + size],
        }
        end += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with target.open("xb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        written = 0
        for name, size in sizes.items():
            tensor = weights.read(name)
            rounded = tensor.to(torch.bfloat16).contiguous()
            if not torch.isfinite(rounded).all():
                raise ExportRefused(f"{name} has numbers that bfloat16 cannot hold. Train anew.")
            rounded.view(torch.int16).numpy().tofile(file)
            written += size
            progress(written, end)
        file.flush()
        os.fsync(file.fileno())


def _copy_beside(model: FinishedModel, directory: Path) -> None:
    for name in _BESIDE:
        source = model.artifact / name
        if not source.is_file():
            continue
        if name == "tokenizer_config.json":
            config = json.loads(source.read_bytes())
            kept = {key: value for key, value in config.items() if key not in _OF_THIS_MACHINE}
            _write_json(directory / name, kept)
        else:
            shutil.copyfile(source, directory / name)
    if (templates := model.artifact / _MORE_TEMPLATES).is_dir():
        shutil.copytree(templates, directory / _MORE_TEMPLATES)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
