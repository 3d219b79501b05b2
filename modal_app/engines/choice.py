"""Which engine trains a run, and whether it can here."""

from __future__ import annotations

from importlib import import_module

from modal_app import hardware
from modal_app.engines.axolotl import AxolotlLearner
from modal_app.engines.unsloth import UnslothLearner
from modal_app.methods.embeddings import EmbeddingLearner
from modal_app.methods.language import LanguageLearner
from modal_app.session.failures import RunFailed
from modal_app.task import Learner, Task
from shared.training.config import Engine

# Imported before trl and transformers are: an engine puts its own parts into theirs.
_IMPORTED_FIRST: dict[Engine, str] = {"unsloth": "unsloth", "axolotl": "axolotl.train"}


def require_engine(engine: Engine) -> None:
    """The engine is imported. Raises RunFailed: engine_needs_gpu, or engine_missing from this environment."""
    if engine == "trl":
        return
    name = engine.capitalize()
    if hardware.device() != "cuda":
        raise RunFailed(
            "engine_needs_gpu",
            f"{name} trains on a GPU with CUDA only, and this machine has none."
            " Take provider modal, or engine trl.",
        )
    try:
        import_module(_IMPORTED_FIRST[engine])
    except ImportError as error:
        raise RunFailed(
            "engine_missing",
            f"{name} cannot be imported here: {error}. It has an image of its own at Modal (docs/modal.md).",
        ) from error


def learner_of(task: Task) -> Learner:
    """The model of the run with its rows, ready to be trained. Raises RunFailed and Stopped."""
    if task.spec.method == "embedding":
        return EmbeddingLearner(task)
    match task.spec.config.engine:
        case "unsloth":
            return UnslothLearner(task)
        case "axolotl":
            return AxolotlLearner(task)
        case _:
            return LanguageLearner(task)
