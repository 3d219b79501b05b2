"""What each engine of our trainer can do, and where: asked before anything is paid."""

from __future__ import annotations

from collections.abc import Mapping

from shared.training.config import METHODS, SUPERVISED, Engine, Method, TrainingConfig

_METHODS: Mapping[Engine, frozenset[Method]] = {
    "trl": METHODS,
    "unsloth": SUPERVISED,
    "axolotl": SUPERVISED,
}
# Their pins exclude those of our trainer, so they live in images of their own, and both need CUDA.
_IMAGES_AT = "modal"


def unsuited(config: TrainingConfig, method: Method, provider: str) -> str | None:
    """Why this engine cannot train so there, and what to do; None: nothing speaks against it."""
    engine = config.engine
    if engine == "trl":
        return None
    name = engine.capitalize()
    if provider != _IMAGES_AT:
        return (
            f"{name} needs an image and a GPU of its own, which {provider} does not have for it."
            f" Take provider {_IMAGES_AT!r}, or engine 'trl'."
        )
    if method not in _METHODS[engine]:
        return (
            f"{name} trains {', '.join(sorted(_METHODS[engine]))} here, not {method}."
            " Take one of those, or engine 'trl'."
        )
    return None
