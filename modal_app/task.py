"""A run that has its claim, and what the loop asks of a method to train it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from modal_app.ranks.place import ALONE, Place
from modal_app.session.directory import RunDirectory
from modal_app.session.stop import StopSignal
from shared.training.spec import Progress, RunSpec

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

_ROWS_NAMED = 20  # in a message for people; the data of the event holds more
_ROWS_LISTED = 1_000


class Voice(Protocol):
    """Whom a run tells how it is doing; `Reporter` says what each does."""

    def say(self, current_step: str, **numbers: float) -> None: ...

    def progress(self, progress: Progress, *, training: bool = False) -> None: ...

    def event(
        self, message: str, *, level: Literal["info", "warning", "error"] = "info", **data: Any
    ) -> None: ...


@dataclass(frozen=True)
class Task:
    """What to train, on which rows, where to keep it, and whom to tell."""

    spec: RunSpec
    dataset: Path
    validation: Path | None  # None: no rows are held out
    directory: RunDirectory
    reporter: Voice
    stop: StopSignal
    base_sha256: str | None = None  # of a base model that lies on this machine
    most_rows_at_once: int | None = None  # where more ran out of memory; None: as many as usually fit
    place: Place = ALONE  # of this process among those that train the run

    @property
    def base_source(self) -> str:
        """What the base model is loaded by: a Hub id or a directory."""
        return self.directory.base_source(self.spec)

    def warn_of_rows(self, numbers: list[int], what: str) -> None:
        """The history of the job names these rows, `what` being "rows are ..."; nothing is said of none."""
        if not numbers:
            return
        named = ", ".join(map(str, numbers[:_ROWS_NAMED])) + (", ..." if len(numbers) > _ROWS_NAMED else "")
        self.reporter.event(
            f"{len(numbers)} {what}: {named}.",
            level="warning",
            row_count=len(numbers),
            row_numbers=numbers[:_ROWS_LISTED],
        )


class Learner(Protocol):
    """A model with its rows, ready to be trained."""

    @property
    def example_count(self) -> int:
        """Rows that are trained."""
        ...

    @property
    def too_long_count(self) -> int:
        """Rows that were left out for their length."""
        ...

    @property
    def rows_at_once(self) -> int:
        """Rows that pass through the model of one rank together; several such make its part of a batch."""
        ...

    @property
    def fewer_rows_at_once(self) -> int | None:
        """At most half as many, of which batches can be made as well; None: fewer are impossible."""
        ...

    @property
    def longest_row_tokens(self) -> int:
        """Of what passes through the model for one row."""
        ...

    @property
    def model_bytes(self) -> int:
        """Of the weights as they are held."""
        ...

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        ...

    @property
    def looks_at_held_out_rows(self) -> bool:
        """Whether there is a validation loss."""
        ...

    def trainer(self, callbacks: Sequence[TrainerCallback]) -> Trainer:
        """Writes checkpoints, and tells nobody but the callbacks. Called once."""
        ...

    def gather(self) -> None:
        """Rank 0 holds all weights afterwards, wherever they lay. Every rank calls it, before `save`."""
        ...

    def save(self) -> int:
        """`artifact/` is the trained model afterwards. Returns its bytes."""
        ...

    def template_fingerprint(self) -> str | None:
        """None: the model is not talked to."""
        ...

    def metrics(self) -> dict[str, Any]:
        """What the run has changed, by the measure of its method, beside the loss."""
        ...
