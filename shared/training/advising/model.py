"""What is asked of the advisor, and what it answers. Advice starts nothing and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.training.config import Method, TrainingConfig
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.shapes import ModelShape
from shared.training.sizing.gpu_run import NOTHING_MORE, PATIENCE_SECONDS, Known
from shared.training.spec import ParentModel, root_of

Kind = Literal["sft", "preference", "kto"]  # as training_pairs.kind
Goal = Literal["answers", "search"]


def nothing_more(_place: str, _base_model: str, _method: Method) -> Known:
    """Where nothing is known beyond names."""
    return NOTHING_MORE


@dataclass(frozen=True)
class Question:
    """A dataset, and what its owner wants. None: left to the advisor, or no limit."""

    files: Mapping[Kind, TrainingFile]  # those that have rows
    places: tuple[str, ...]  # where our trainer can run: local, modal, huggingface
    goal: Goal = "answers"
    base_model: str | None = None
    parent: ParentModel | None = None  # set when that base model is one of the project
    shape: ModelShape | None = None  # of that base model, where more than its name is known
    method: Method | None = None
    budget_usd: float | None = None
    deadline_seconds: float | None = None
    local_memory_bytes: int | None = None  # of this machine; None: not known
    known: Callable[[str, str, Method], Known] = nothing_more

    def root_of(self, base_model: str) -> str:
        """What rules and sizes hold for, where this is the base model."""
        return root_of(base_model, self.parent)

    @property
    def patience_seconds(self) -> float:
        """How long a run may take: as asked, else as long as a job may that names no limit."""
        return self.deadline_seconds or PATIENCE_SECONDS


@dataclass(frozen=True)
class Choice:
    """One thing that was chosen."""

    name: str  # method, base_model, place, gpu, or a setting by its name in TrainingConfig
    value: Any
    reason: str
    source: str  # whose rule it is


@dataclass(frozen=True)
class Rejected:
    """One thing that was not chosen."""

    option: str
    reason: str


@dataclass(frozen=True)
class Advice:
    """A run that is worth starting, and why it looks like this."""

    method: Method
    base_model: str
    config: TrainingConfig  # only what the advisor sets; the rest stays automatic
    place: str
    gpu: str | None  # as the place names it; None: there is none to choose
    estimate: Estimate
    meets: bool  # False: nothing keeps to the budget and the deadline, and this comes nearest
    choices: tuple[Choice, ...]
    rejected: tuple[Rejected, ...] = field(default=())
    next_step: str | None = None  # what to train afterwards; None: nothing
