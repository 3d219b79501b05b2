"""The adapter of FakeTrainers: a provider whose `find` knows nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.errors import ProviderRunNotFound, ProviderUnavailable
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers.base import KeyFacts, ProviderReport, ReportedStatus
from shared.training.config import Method
from shared.training.estimate import Estimate, on_this_machine
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunError, RunSpec

_STATUSES: dict[str, ReportedStatus] = {
    "booting": "queued",
    "training": "training",
    "completed": "completed",
    "cancelled": "cancelled",
    "stopped_at_its_end": "cancelled",
    "turned_away": "failed",
}


@dataclass
class ClaimingProvider:
    """The adapter of FakeTrainers."""

    url: str
    late_seconds: float
    name: str = "claiming"
    key: KeyProvider | None = None
    methods: frozenset[Method] = frozenset({"full"})
    runs_our_trainer: bool = True
    keeps_disk: bool = True
    _http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=5, verify=False))

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None,
    ) -> str:
        asked = {"job_id": str(spec.job_id), "attempt": spec.attempt, "run_id": str(spec.run_id)}
        asked |= {"url": callback.url, "token": callback.token.get_secret_value()}
        return str((await self._ask("POST", "/runs", asked))["ref"])

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        return []

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        phase = (await self._ask("GET", f"/runs/{provider_job_id}"))["phase"]
        error = RunError(code="claim_lost", message="It came too late.") if phase == "turned_away" else None
        return ProviderReport(_STATUSES[phase], error=error)

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        await self._ask("POST", f"/runs/{provider_job_id}/cancel")

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None: ...

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        return KeyFacts()

    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        return on_this_machine(spec, dataset)

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            response = await self._http.request(method, f"{self.url}{path}", json=body)
            if response.status_code == 404:
                raise ProviderRunNotFound("no such run")
            answer: dict[str, Any] = response.raise_for_status().json()
        except httpx.HTTPError as error:
            raise ProviderUnavailable(f"no answer ({type(error).__name__})") from error
        return answer
