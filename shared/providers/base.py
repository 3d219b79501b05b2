"""What every place that trains can do.

A provider never touches a row: the caller records what comes back. Every method may raise
`ProviderUnavailable` (nobody knows what happened, look again later), `ProviderRejected` (a definite
no, with the reason) or `ProviderNotEligible`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from shared.keys.store import KeyProvider
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.spec import Callback, Method, RunError, RunResult, RunSpec

ReportedStatus = Literal["validating", "queued", "training", "completed", "failed", "cancelled"]


@dataclass(frozen=True)
class ProviderReport:
    """What a provider says of a run, in our words."""

    status: ReportedStatus
    current_step: str | None = None  # for people; None: nothing new to say
    result: RunResult | None = None  # set when completed
    error: RunError | None = None  # set when failed
    cost_usd: float | None = None  # so far; None: the provider does not say


class TrainingProvider(Protocol):
    """Starts, finds, watches and stops training somewhere."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> KeyProvider | None:
        """Whose key a user must have set; None: it needs no key."""
        ...

    @property
    def methods(self) -> frozenset[Method]: ...

    async def start(
        self, spec: RunSpec, dataset: TrainingFile, *, idempotency_key: str, callback: Callback
    ) -> str:
        """The provider's id of the run. Called again with the same key it returns the same run."""
        ...

    async def find(self, idempotency_key: str) -> str | None:
        """The id of the run that was started with this key; None: there is none (yet)."""
        ...

    async def poll(self, provider_job_id: str) -> ProviderReport:
        """The state of a run now. Never waits for it to change."""
        ...

    async def cancel(self, provider_job_id: str) -> None:
        """The run was asked to stop. Harmless when it has ended, and when called again."""
        ...

    def estimate(self, spec: RunSpec, dataset: TrainingFile) -> Estimate:
        """What the run will take, before it is started. Changes nothing."""
        ...
