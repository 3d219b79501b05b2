"""A provider whose every answer a test decides. It keeps the contract of shared.providers.base."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import ProviderRunNotFound
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers.base import KeyFacts, ProviderReport
from shared.training.config import Method
from shared.training.estimate import Estimate, on_this_machine
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunSpec


@dataclass
class ScriptedProvider:
    """Runs by id; a run's id is its idempotency key, unless `twice` made a second one."""

    name: str = "scripted"
    key: KeyProvider | None = None
    methods: frozenset[Method] = frozenset({"full"})
    runs_our_trainer: bool = True
    keeps_disk: bool = True
    late_seconds: float = 0.0
    runs: dict[str, ProviderReport] = field(default_factory=dict)
    created: int = 0
    cancelled: list[str] = field(default_factory=list)
    start_error: Exception | None = None
    created_although_it_failed: bool = False
    find_error: Exception | None = None
    poll_error: Exception | None = None
    on_cancel: ProviderReport | None = field(default_factory=lambda: ProviderReport("cancelled"))
    specs: list[RunSpec] = field(default_factory=list)
    keys: list[OpenedKey | None] = field(default_factory=list)

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None,
    ) -> str:
        self.specs.append(spec)
        self.keys.append(key)
        if self.start_error is None or self.created_although_it_failed:
            self.created += idempotency_key not in self.runs
            self.runs.setdefault(idempotency_key, ProviderReport("queued"))
        if self.start_error is not None:
            raise self.start_error
        return idempotency_key

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        if self.find_error is not None:
            raise self.find_error
        return [ref for ref in self.runs if ref.startswith(idempotency_key)]

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        if self.poll_error is not None:
            raise self.poll_error
        if provider_job_id not in self.runs:
            raise ProviderRunNotFound("no such run")
        return self.runs[provider_job_id]

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        self.cancelled.append(provider_job_id)
        if self.on_cancel is not None:
            self.runs[provider_job_id] = self.on_cancel

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None: ...

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        return KeyFacts()

    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        return on_this_machine(spec, dataset)
