"""Jobs, users, two overlapping schedules and a vendor, all disturbed; then what became of each job."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

import structlog
from pydantic import SecretStr

from shared.errors import FineFlowError, ProviderKeyInvalid
from shared.jobs.advance import JobCore
from shared.jobs.reconcile import Reconciler
from shared.jobs.state import ENDED, JobStatus
from shared.jobs.store import JobStore
from shared.jobs.timing import Timing
from shared.jobs.token import TrainerTokens
from shared.keys.store import KeyProvider, OpenedKey
from shared.training.config import TrainingConfig
from shared.training.files import TrainingFile
from tests.shared.jobs.simulation.clock import run_imagined
from tests.shared.jobs.simulation.database import MemoryDatabase
from tests.shared.jobs.simulation.faults import Faults, FaultyDatabase, Killed, Process, Rates
from tests.shared.jobs.simulation.vendor import Client, Vendor

TICK_SECONDS = 30
LATE_SECONDS = 180.0
_FILE = TrainingFile(b"{}", "0" * 64, row_count=1, token_count=1, char_count=1)
_TOKENS = TrainerTokens(SecretStr("x" * 32))
_CONFIG = TrainingConfig().model_dump(mode="json")


@dataclass(frozen=True)
class Plan:
    """One world."""

    seed: int
    rows: int = 1
    rates: Rates = field(default_factory=Rates)
    timing: Timing = field(default_factory=Timing)
    late_seconds: float = LATE_SECONDS  # what the adapter says
    real_late_seconds: float = LATE_SECONDS  # what the vendor does
    arrivals_seconds: float = 300
    faults_seconds: float = 2400
    most_seconds: float = 6 * 3600


@dataclass
class Outcome:
    """What became of the jobs. Each list names seeds and job ids that went wrong."""

    rows: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)  # ended although a run of it trained to its end or goes on
    duplicates: list[str] = field(default_factory=list)  # more than one run that was paid
    second_runs: list[str] = field(default_factory=list)  # made although the vendor kept its promise
    stopped_runs: int = 0  # by the sweeper: of deleted jobs, or second ones
    wrong_terminal: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    convergence_seconds: list[float] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        for name in vars(self):
            mine = getattr(self, name)
            setattr(self, name, mine + getattr(other, name))

    @property
    def is_good(self) -> bool:
        wrong = (self.lost, self.duplicates, self.second_runs, self.wrong_terminal, self.stuck)
        return not any(wrong)


@dataclass
class _Keys:
    """Each user has a key; a revoked one is found out by the vendor's 401 and replaced after a while."""

    revoked: set[str]
    invalid: set[str] = field(default_factory=set)
    numbers: Counter[UUID] = field(default_factory=Counter)

    def current(self, user_id: UUID) -> str:
        return f"{user_id}-{self.numbers[user_id]}"

    async def open(self, user_id: UUID, provider: KeyProvider) -> OpenedKey | None:
        if self.current(user_id) in self.invalid:
            raise ProviderKeyInvalid("The key was revoked.")
        return OpenedKey(SecretStr("sk"), set_at=self.current(user_id))

    async def mark_invalid(
        self, user_id: UUID, provider: KeyProvider, opened: OpenedKey, reason: str
    ) -> bool:
        if opened.set_at == self.current(user_id):
            self.invalid.add(opened.set_at)
        return True


class World:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        loop = asyncio.get_running_loop()
        self.plan, self.now = plan, loop.time
        self.start = self.now()
        self.random = Random(plan.seed)
        self.faults = Faults(self.random, plan.rates, self.start + plan.faults_seconds, self.now)
        self.database = MemoryDatabase(self.now, self.new_uuid)
        searchable = self.random.random() < 0.75
        self.vendor = Vendor(self.random, self.now, self.database, searchable, plan.real_late_seconds)
        self.revoked: set[str] = set()
        self.keys = _Keys(self.revoked)
        self.deleted: set[str] = set()
        self._losing: list[asyncio.Future[None]] = []

    def new_uuid(self) -> UUID:
        return UUID(int=self.random.getrandbits(128), version=4)

    def process(self) -> JobCore:
        """The job core in a process of its own."""
        process = Process(self.faults)
        client = Client(self.vendor, process, self.revoked, self.plan.late_seconds)
        return JobCore(
            store=JobStore(FaultyDatabase(self.database, process)),
            providers={"vendor": client},
            keys=self.keys,
            tokens=_TOKENS,
            report_url="http://nobody",
            build_training_file=_file,
            timing=self.plan.timing,
            random=self.random,
        )

    async def live(self) -> Outcome:
        """Everything happens; ends when every job has ended and every sweep was made, or time is up."""
        users = [asyncio.ensure_future(self._user()) for _ in range(self.plan.rows)]
        await asyncio.gather(*users, self._schedule(0), self._schedule(0.05))
        return self._outcome()

    async def _schedule(self, offset: float) -> None:
        end = self.start + self.plan.most_seconds
        while self.now() < end:
            due = self.database.next_due()
            finished = len(self.database.jobs) + len(self.deleted) >= self.plan.rows
            if due == math.inf and finished:
                return
            # The next tick that will find something: those before it would find nothing.
            due = min(due, self.now() + self.plan.arrivals_seconds)
            ticks = max(1, math.ceil((due - self.now()) / TICK_SECONDS))
            await asyncio.sleep(ticks * TICK_SECONDS + offset)
            await self._survive(self.process())

    async def _survive(self, core: JobCore, job_id: UUID | None = None) -> None:
        try:
            if job_id is None:
                await Reconciler(core, concurrency=4).tick()
            else:
                await core.advance(job_id)
        except (Killed, FineFlowError):
            return

    async def _user(self) -> None:
        r = self.random
        await asyncio.sleep(r.uniform(0, self.plan.arrivals_seconds))
        job_id = self.database.add_job(
            provider="vendor",
            method="full",
            base_model="fineflow/tiny",
            model_name="m",
            training_config=_CONFIG,
        )
        user_id = UUID(self.database.jobs[str(job_id)]["user_id"])
        clicks = [self._survive(self.process(), job_id) for _ in range(1 + (r.random() < 0.2))]
        await asyncio.gather(*clicks)
        if self.faults.strikes("revoked"):
            self._losing.append(asyncio.ensure_future(self._lose_key(user_id)))
        if r.random() < 0.2:
            await asyncio.sleep(r.uniform(0, 1500))
            self.database.request_training_cancel(str(job_id), "user")
            await self._survive(self.process(), job_id)
        elif r.random() < 0.03:
            await asyncio.sleep(r.uniform(0, 1500))
            self.database.delete_job(str(job_id))
            self.deleted.add(str(job_id))

    async def _lose_key(self, user_id: UUID) -> None:
        await asyncio.sleep(self.random.uniform(0, 600))
        self.revoked.add(self.keys.current(user_id))
        await asyncio.sleep(self.random.uniform(60, 900))
        self.keys.numbers[user_id] += 1

    def _outcome(self) -> Outcome:
        outcome = Outcome(rows=self.plan.rows, faults=self.faults.counts)
        for job_id, job in self.database.jobs.items():
            self._judge(job_id, job, outcome)
        for job_id in self.deleted:
            runs = self.vendor.runs.get(job_id, [])
            if any(run.status(self.now()) in ("validating", "queued", "training") for run in runs):
                outcome.lost.append(f"{self.plan.seed}:{job_id} deleted, runs on")
        outcome.stopped_runs = sum(a["extra_runs"] for a in self.database.attempts.values())
        return outcome

    def _judge(self, job_id: str, job: dict[str, object], outcome: Outcome) -> None:
        name, now = f"{self.plan.seed}:{job_id}", self.now()
        runs = self.vendor.runs.get(job_id, [])
        status = JobStatus(str(job["status"]))
        outcome.ends[status] += 1
        if status not in ENDED:
            outcome.stuck.append(f"{name} {status}")
            return
        if sum(run.is_paid(now) for run in runs) > 1:
            outcome.duplicates.append(name)
        if self.vendor.searchable and len(runs) > 1:
            outcome.second_runs.append(name)
        bound = self.vendor.by_ref.get(str(job["provider_job_id"]))
        truth = bound.status(now) if bound else None
        good = truth == status or (truth is None and status != JobStatus.COMPLETED)
        registered = self.database.models.count(job_id)
        if not good or registered != (status == JobStatus.COMPLETED):
            outcome.wrong_terminal.append(f"{name} {status} is {truth}")
        if any(run is not bound and run.is_paid(now) for run in runs):
            outcome.lost.append(name)
        if bound is not None:
            decided_at = bound.ends_at if bound.cancelled_at is None else bound.cancelled_at
            since = max(decided_at, self.faults.last_at.get(job_id, 0))
            outcome.convergence_seconds.append(max(0.0, self.database.ended_at[job_id] - since))


async def _file(dataset_id: UUID, method: str) -> TrainingFile:
    return _FILE


def live_all(plans: Iterable[Plan]) -> Outcome:
    """The outcomes of all plans together, one after the other. Our own log lines are left out."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    together = Outcome()
    try:
        for plan in plans:
            together.add(live(plan))
    finally:
        structlog.configure(**before)
    return together


def live(plan: Plan) -> Outcome:
    """The outcome of a plan; the same plan has the same outcome, always."""

    async def world() -> Outcome:
        return await World(plan).live()

    outcome: Outcome = run_imagined(world())
    return outcome
