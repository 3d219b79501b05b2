"""A vendor that creates jobs late, lists them later, and says so wrongly; and its client in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from shared.errors import (
    ProviderBusy,
    ProviderKeyInvalid,
    ProviderRejected,
    ProviderRunNotFound,
    ProviderUnavailable,
)
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers.base import KeyFacts, ProviderEvent, ProviderReport, ReportedStatus
from shared.training.config import Method
from shared.training.estimate import Estimate
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunError, RunResult, RunSpec, RunState
from tests.shared.jobs.simulation.database import MemoryDatabase
from tests.shared.jobs.simulation.faults import Process

RESULT = RunResult(state=RunState.COMPLETED, training_loss=0.1, trained_tokens=1000)
CALL_SECONDS = 30.0


@dataclass
class Run:
    """One training run at the vendor. Its life is decided when it is made."""

    ref: str
    key: str  # the idempotency key
    attempt: int
    made_at: float
    visible_at: float
    phases: tuple[float, float, float]  # seconds of validating, queued, training
    end: ReportedStatus
    has_claim: bool  # without it the trainer leaves before it costs anything
    cancelled_at: float | None = None

    @property
    def ends_at(self) -> float:
        return self.made_at + sum(self.phases)

    def status(self, now: float) -> ReportedStatus:
        """What it is at this moment."""
        if self.cancelled_at is not None and now >= self.cancelled_at:
            return "cancelled"
        words: tuple[ReportedStatus, ...] = ("validating", "queued", "training")
        age = now - self.made_at
        for word, seconds in zip(words, self.phases, strict=True):
            if age < seconds:
                return word
            age -= seconds
        return self.end

    def is_paid(self, now: float) -> bool:
        """Whether it trains, or trained to its end."""
        return self.has_claim and self.status(now) != "cancelled"


@dataclass
class Vendor:
    """The vendor's side. With `searchable` False its trainers claim their job, as on Modal."""

    random: Random
    now: Callable[[], float]
    database: MemoryDatabase
    searchable: bool
    late_seconds: float
    runs: dict[str, list[Run]] = field(default_factory=dict)  # by idempotency key
    by_ref: dict[str, Run] = field(default_factory=dict)

    def make(self, key: str, attempt: int, *, most_lag_seconds: float) -> Run:
        """A run exists from now on."""
        now, r = self.now(), self.random
        run = Run(
            ref=f"run-{len(self.by_ref)}",
            key=key,
            attempt=attempt,
            made_at=now,
            visible_at=now + r.uniform(0, most_lag_seconds),
            phases=(r.uniform(1, 60), r.uniform(1, 300), r.uniform(30, 1500)),
            end="failed" if r.random() < 0.1 else "completed",
            has_claim=self.searchable,
        )
        self.runs.setdefault(key, []).append(run)
        self.by_ref[run.ref] = run
        if not self.searchable:
            starts_at = now + run.phases[0] + run.phases[1]
            asyncio.get_running_loop().call_at(starts_at, self._trainer_starts, run)
        return run

    def _trainer_starts(self, run: Run) -> None:
        if run.status(self.now()) == "cancelled":
            return
        answer = self.database.report_training(
            run.key, run.attempt, run.ref, [{"seq": 1, "kind": "claim"}], run.ref
        )
        run.has_claim = answer["outcome"] == "accepted"
        if not run.has_claim:
            run.cancelled_at = self.now()

    def cancel(self, run: Run) -> None:
        """It stops soon, unless it has ended."""
        now = self.now()
        if run.cancelled_at is None and now < run.ends_at:
            stops_at = now + self.random.choice((0.0, 0.0, 20.0))
            run.cancelled_at = stops_at if stops_at < run.ends_at else None


@dataclass
class Client:
    """The provider adapter of one process: it searches, then creates, as the real ones do."""

    vendor: Vendor
    process: Process
    revoked: set[str]  # keys that the vendor refuses
    late_seconds: float  # what is believed of the vendor
    name: str = "vendor"
    key: KeyProvider | None = "openai"
    methods: frozenset[Method] = frozenset({"full"})
    runs_our_trainer: bool = False
    keeps_disk: bool = True

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None,
    ) -> str:
        try:
            found = await self.find(idempotency_key, key=key)
        except ProviderUnavailable as error:
            raise ProviderBusy("not searched, so not created") from error
        return found[0] if found else await self._create(idempotency_key, spec.attempt)

    async def _create(self, job_id: str, attempt: int) -> str:
        faults, random = self.process.faults, self.process.faults.random
        await self._travel(job_id)
        if faults.strikes("busy", job_id):
            raise ProviderBusy("429", retry_after_seconds=random.choice((None, 1.0, 20.0)))
        if faults.strikes("refused", job_id):
            raise ProviderRejected("no", code="no")
        if faults.strikes("server_error", job_id):
            raise ProviderUnavailable("500")
        if faults.strikes("timeout", job_id):
            await asyncio.sleep(CALL_SECONDS)
            raise ProviderUnavailable("timeout")
        if faults.strikes("timeout_executed", job_id):
            await self._time_out_executed(job_id, attempt)
        run = self.vendor.make(job_id, attempt, most_lag_seconds=10)
        if faults.strikes("server_error_executed", job_id):
            raise ProviderUnavailable("502")
        await self._arrive(job_id)
        return run.ref

    async def _time_out_executed(self, job_id: str, attempt: int) -> None:
        """The vendor acts, at once or later than anybody waits, but no later than it promised."""
        random = self.process.faults.random
        lag = self.vendor.late_seconds / 6
        late = CALL_SECONDS + self.vendor.late_seconds - lag
        delay = random.choice((0.0, random.uniform(0, late)))
        loop = asyncio.get_running_loop()
        loop.call_later(delay, lambda: self.vendor.make(job_id, attempt, most_lag_seconds=lag))
        await asyncio.sleep(CALL_SECONDS)
        raise ProviderUnavailable("timeout")

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        await self._read(idempotency_key, key)
        if not self.vendor.searchable:
            return []
        runs = self.vendor.runs.get(idempotency_key, [])
        await self._arrive(idempotency_key)
        return [run.ref for run in runs if run.visible_at <= self.vendor.now()]

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        run = self.vendor.by_ref[provider_job_id]
        await self._read(run.key, key)
        if self.process.faults.strikes("read_missing", run.key):
            raise ProviderRunNotFound("404")
        status = run.status(self.vendor.now())
        await self._arrive(run.key)
        event = ProviderEvent(f"{run.ref}-{status}", status)
        return ProviderReport(
            status,
            result=RESULT if status == "completed" else None,
            error=RunError(code="bad", message="It failed.") if status == "failed" else None,
            events=(event,) if cursor != event.id else (),
            cursor=event.id,
        )

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        run = self.vendor.by_ref[provider_job_id]
        await self._read(run.key, key)
        self.vendor.cancel(run)
        await self._arrive(run.key)

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None: ...

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        return KeyFacts()

    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        raise NotImplementedError

    async def _read(self, job_id: str, key: OpenedKey | None) -> None:
        await self._travel(job_id)
        if key is not None and key.set_at in self.revoked:
            raise ProviderKeyInvalid("The key was revoked.")
        if self.process.faults.strikes("busy", job_id, chance=self.process.faults.rates.busy / 4):
            raise ProviderBusy("429", retry_after_seconds=5)
        if self.process.faults.strikes("read_error", job_id):
            await asyncio.sleep(self.process.faults.random.choice((0.1, CALL_SECONDS)))
            raise ProviderUnavailable("503")

    async def _travel(self, job_id: str) -> None:
        self.process.may_die(job_id)
        await self.process.may_freeze(job_id)
        await asyncio.sleep(self.process.faults.random.uniform(0.05, 0.3))
        self.process.check()

    async def _arrive(self, job_id: str) -> None:
        self.process.may_die(job_id)
        await asyncio.sleep(self.process.faults.random.uniform(0.01, 0.1))
        await self.process.may_freeze(job_id)
