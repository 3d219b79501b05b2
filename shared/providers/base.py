"""What every place that trains can do.

A provider never touches a row: the caller records what comes back. It keeps nothing between calls
but connections, so any process can go on where another stopped. Every method that takes a `key` may
raise

    ProviderUnavailable   nobody knows what happened: look before trying again
    ProviderBusy          turned away before anything happened (429)
    ProviderRejected      a definite no, with the provider's reason
    ProviderNotEligible   this account may not train there
    ProviderKeyInvalid    the key is wrong, revoked or may not do this (401)
    ProviderRunNotFound   poll, cancel: the provider knows no such run

and nothing else. Each call has a timeout of its own and repeats only what is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from shared.keys.store import KeyProvider, OpenedKey
from shared.training.config import Method
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, Progress, RunError, RunResult, RunSpec

ReportedStatus = Literal["validating", "queued", "training", "completed", "failed", "cancelled"]
ENDED_STATUSES: frozenset[ReportedStatus] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class ProviderEvent:
    """Something that the provider wrote into the history of a run."""

    id: str  # the provider's own: a second delivery is stored once
    message: str
    level: Literal["info", "warning", "error"] = "info"
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepMetrics:
    """The numbers of one optimiser step. None: the provider does not say."""

    step: int
    epoch: float | None = None
    training_loss: float | None = None
    validation_loss: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class ProviderReport:
    """What a provider says of a run, in our words."""

    status: ReportedStatus
    current_step: str | None = None  # for people; None: nothing new to say
    progress: Progress | None = None  # None: the trainer reports by itself, or nothing is known
    result: RunResult | None = None  # set when completed
    error: RunError | None = None  # set when failed
    cost_usd: float | None = None  # so far; None: the provider does not say
    events: tuple[ProviderEvent, ...] = ()  # since the cursor, oldest first
    metrics: tuple[StepMetrics, ...] = ()  # since the cursor, oldest first
    cursor: str | None = None  # to be given to the next poll; None: as before


@dataclass(frozen=True)
class KeyFacts:
    """What a provider says of a key that works."""

    account: str | None = None  # who it belongs to, as the provider names it
    permissions: tuple[str, ...] = ()  # empty: the provider does not say


@runtime_checkable
class KeepsConnections(Protocol):
    """A provider with connections between its calls."""

    async def close(self) -> None:
        """The connections of this event loop are closed; a later call opens others."""
        ...


class TrainingProvider(Protocol):
    """Starts, finds, watches and stops training somewhere."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> KeyProvider | None:
        """Whose key a user must have set; None: it needs no key, and `key` is None in every call."""
        ...

    @property
    def methods(self) -> frozenset[Method]: ...

    @property
    def runs_our_trainer(self) -> bool:
        """True: modal_app trains, on a config without automatic values, and reports by itself.

        False: the vendor trains in its own way and chooses what is None.
        """
        ...

    @property
    def keeps_disk(self) -> bool:
        """False: the disk that our trainer writes to goes with it, so the model goes to Storage first."""
        ...

    @property
    def late_seconds(self) -> float:
        """How long after a start was given up its run may still appear in `find`."""
        ...

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None,
    ) -> str:
        """The provider's id of the run. Called again with the same key it returns the same run.

        The create call itself is never repeated here. A definite refusal means: there is no run;
        so does ProviderBusy, also where something before the create call could not be reached.
        """
        ...

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        """The ids of all runs that were started with this key, the oldest first, ended ones included."""
        ...

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        """The state of a run now. Never waits for it to change."""
        ...

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        """The run was asked to stop. Harmless when it has ended, and when called again."""
        ...

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None:
        """The provider keeps the tuned model no more. Harmless when it is gone already."""
        ...

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        """The key works, and this is what it is. Starts nothing and costs nothing."""
        ...

    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        """What the run will take, before it is started. Changes nothing."""
        ...
