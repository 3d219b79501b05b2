"""The shape of a base model whose config.json lies here: below a directory that is allowed, or in the cache
of huggingface_hub. Nobody is asked for it over a network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from shared.datasets.bases import allowed, cached
from shared.errors import InvalidRequest
from shared.training.shapes import ModelShape, ShapeUnknown, shape_of_config

_MOST_BYTES = 1_048_576


def base_shape(base_model: str, *, model_dirs: Sequence[Path]) -> ModelShape | None:
    """The shape as its own config.json tells; None: there is none that may be read or that says it."""
    with suppress(InvalidRequest, ShapeUnknown, OSError):
        if base_model.startswith("/"):
            path: Path | None = allowed(Path(base_model), model_dirs) / "config.json"
        else:
            path = cached(base_model, "config.json")
        if path is not None:
            with path.open("rb") as file:
                return shape_of_config(file.read(_MOST_BYTES))
    return None
