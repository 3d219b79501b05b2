"""Where the tokenizer of a base model lies, of those that can be opened here without a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from shared.errors import InvalidRequest
from shared.training.catalog import TINY
from shared.training.tiny.tokenizer import tiny_tokenizer


def tokenizer_directory(base_model: str, *, data_dir: Path, model_dirs: Sequence[Path]) -> Path:
    """The directory with its tokenizer.json: of the tiny model, of a path below one of `model_dirs`, or of a
    Hub model that lies in the cache of huggingface_hub.

    Raises InvalidRequest (tokenizer_unavailable) that says how to make it one of these.
    """
    if base_model == TINY:
        return _tiny(data_dir)
    if base_model.startswith("/"):
        return allowed(Path(base_model), model_dirs)
    found = cached(base_model, "tokenizer.json")
    if found is None:
        raise InvalidRequest(
            f"The tokenizer of {base_model} is not on this server, so what it would learn cannot be shown."
            f" Have its operator download it (`hf download {base_model} tokenizer.json tokenizer_config.json"
            " config.json generation_config.json '*.jinja'`), or look at a file of your own with"
            " `fineflow datasets xray FILE --tokenizer PATH`. A model of a vendor has no public tokenizer.",
            code="tokenizer_unavailable",
            details={"baseModel": base_model},
        )
    return found.parent


def _tiny(data_dir: Path) -> Path:
    try:
        return tiny_tokenizer(data_dir)
    except OSError as error:
        raise InvalidRequest(
            f"The tokenizer of {TINY} cannot be built in FINEFLOW_DATA_DIR: {error.strerror}.",
            code="tokenizer_unavailable",
        ) from error


def allowed(path: Path, model_dirs: Sequence[Path]) -> Path:
    """The path without links. Raises InvalidRequest when it is not below one of `model_dirs`."""
    # Both resolved, so that no link and no ".." leads out.
    resolved = Path(os.path.realpath(path))
    if not any(resolved.is_relative_to(os.path.realpath(root)) for root in model_dirs):
        raise InvalidRequest(
            f"{path} is not below a directory that this server may read models from. Have its operator add"
            " one to FINEFLOW_BASE_MODEL_DIRS.",
            code="tokenizer_unavailable",
            details={"baseModel": str(path)},
        )
    return resolved


def cached(base_model: str, name: str) -> Path | None:
    """The file of a Hub model in the cache of huggingface_hub; None: it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(base_model, name)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
