"""The database of the simulation answers as the real one does, whatever is asked of both."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from devstack.up import Stack
from shared.db import APIError, Database, http_client
from shared.jobs.model import Claim, Job, Release, Sweep
from shared.jobs.state import JobStatus
from shared.jobs.store import JobStore
from shared.providers.base import ProviderEvent, ProviderReport
from tests.functions.world import World, make_dataset, make_world, undisturbed
from tests.shared.jobs.simulation.database import MemoryDatabase, Refused

SEQUENCES, STEPS = 20, 30
_TIMES = {
    "private.training_job_control": (
        "lease_expires_at", "next_poll_at", "status_since", "claimed_at", "not_found_since",
    ),
    "public.training_jobs": ("submitted_at", "deadline_at", "started_at", "cancel_requested_at"),
    "private.provider_attempts": ("submitted_at", "next_sweep_at", "lease_expires_at"),
}  # fmt: skip


class Pair:
    """One job in both databases."""

    def __init__(self, world: World, sql: Database, random: Random) -> None:
        self.world, self.random = world, random
        self.moment = 1000.0
        self.memory = MemoryDatabase(lambda: self.moment, uuid4)
        self.stores = (JobStore(sql), JobStore(self.memory))
        row = world.rows(
            "insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key,"
            " request_hash, provider, base_model, method, model_name) values (%s, %s, %s, gen_random_uuid(),"
            " 'h', 'paired', 'fineflow/tiny', 'full', 'm') returning id",
            world.project,
            make_dataset(world.stack, world.project, pairs=1),
            world.user,
        )
        self.job_id = UUID(str(row[0][0]))
        self.memory.add_job(
            id=str(self.job_id), user_id=world.user, provider="paired", method="full",
            base_model="fineflow/tiny", model_name="m", training_config={},
        )  # fmt: skip
        key = next(iter(self.memory.jobs))
        self.memory.jobs[str(self.job_id)] = self.memory.jobs.pop(key)
        self.memory.control[str(self.job_id)] = self.memory.control.pop(key)
        self.claims: tuple[Claim, Claim] | None = None
        self.sweeps: tuple[Sweep, Sweep] | None = None
        self.run_ids = [uuid4(), uuid4()]

    def wait(self, seconds: float) -> None:
        """Time passes in both: all that is written down there lies longer ago."""
        self.moment += seconds
        with psycopg.connect(self.world.stack.database_url) as database:
            database.execute("set session_replication_role = replica")
            for table, columns in _TIMES.items():
                moved = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in columns)
                key = "id" if table.endswith("jobs") else "job_id"
                database.execute(f"update {table} set {moved} where {key} = %s", [self.job_id])
            database.execute(
                "update private.provider_breakers set open_until = open_until - make_interval(secs => %s)"
                " where provider = 'paired'",
                [seconds],
            )

    async def both(self, ask: Any) -> list[Any]:
        """What each answers; a refusal is an answer too."""
        self.moment += 0.01
        answers = []
        for number, store in enumerate(self.stores):
            try:
                answers.append(await ask(store, number))
            except (APIError, Refused):
                answers.append("refused")
            except Exception as error:
                answers.append(type(error).__name__)
        return answers

    async def step(self) -> str:
        name = self.random.choice(
            ["claim", "claim", "claim_due", "move", "move", "move", "release", "cancel", "report", "fail",
             "succeed", "sweep", "swept", "wait", "wait"]
        )  # fmt: skip
        await getattr(self, f"_{name}")()
        return name

    async def _claim(self) -> None:
        self._keep(*await self.both(lambda store, _: store.claim(self.job_id, lease_seconds=100)))

    async def _claim_due(self) -> None:
        due = await self.both(lambda store, _: store.claim_due(1000, lease_seconds=100))
        mine = [next((row for row in rows if row["id"] == str(self.job_id)), None) for rows in due]
        self._keep(*(Claim.from_row(row) if row else None for row in mine))

    def _keep(self, ours: Claim | None, theirs: Claim | None) -> None:
        assert (ours is None) == (theirs is None)
        if ours and theirs:
            same = set(Claim.__dataclass_fields__) - {"job", "lease_token"}
            for name in same:
                assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=3), name
            _equal(ours.job, theirs.job)
            self.claims = (ours, theirs)

    async def _move(self) -> None:
        if self.claims is None:
            return
        r, claims = self.random, self.claims
        statuses = r.choice(
            [[], [], [JobStatus.UPLOADING], [JobStatus.PENDING], [JobStatus.VALIDATING, JobStatus.QUEUED],
             [JobStatus.TRAINING], [JobStatus.FAILED], [JobStatus.CANCELLED]]
        )  # fmt: skip
        chosen: dict[str, Any] = {
            "release_seconds": r.choice([None, 0, 50]),
            "failures": r.randrange(3),
            "crashes": r.randrange(2),
            "not_found": r.random() < 0.3,
            "current_step": r.choice([None, "a step"]),
            "outcome": r.choice([None, "bound", "refused", "not_found"]),
        }
        if statuses == [JobStatus.UPLOADING]:
            chosen |= {"submit": True, "sweep_after_seconds": 40, "outcome": None}
        if r.random() < 0.3:
            event = ProviderEvent(f"e{r.randrange(3)}", "told")
            chosen["report"] = ProviderReport("training", events=(event,), cursor=event.id)
        answers = await self.both(lambda store, n: store.move(claims[n], statuses, **chosen))
        try:
            _equal(*answers)
        except AssertionError as error:
            raise AssertionError(f"{statuses} {chosen} from {claims[0].job.status}") from error
        stored = self.world.rows(
            "select provider_event_id from public.training_job_events"
            " where job_id = %s and provider_event_id is not null order by id",
            self.job_id,
        )
        assert [row[0] for row in stored] == [event for _, event in self.memory.history]

    async def _release(self) -> None:
        if self.claims is not None:
            claims = self.claims
            await self.both(lambda store, n: store.release([Release(self.job_id, claims[n].lease_token, 20)]))

    async def _cancel(self) -> None:
        if self.random.random() < 0.3:
            answers = await self.both(lambda store, _: store.request_cancel(self.job_id))
            assert answers[0][0] == answers[1][0]

    async def _report(self) -> None:
        run_id, attempt = self.random.choice(self.run_ids), self.random.randrange(3)
        reports = [{"seq": 1, "kind": "claim"}]
        answers = await self.both(
            lambda store, _: store.report(
                self.job_id, attempt=attempt, run_id=run_id, reports=reports, provider_job_id="fc"
            )
        )
        assert answers[0]["outcome"] == answers[1]["outcome"]

    async def _fail(self) -> None:
        counts, seconds = self.random.random() < 0.8, self.random.choice([0, 15])
        job = Job.from_row(self.memory.jobs[str(self.job_id)])
        await self.both(lambda store, _: store.note_failure(job, seconds=seconds, counts=counts))

    async def _succeed(self) -> None:
        job = Job.from_row(self.memory.jobs[str(self.job_id)])
        await self.both(lambda store, _: store.note_success(job))

    async def _sweep(self) -> None:
        due = await self.both(lambda store, _: store.claim_sweeps(1000, lease_seconds=100))
        mine = [[sweep for sweep in sweeps if sweep.job_id == self.job_id] for sweeps in due]
        assert mine[0] == mine[1]
        if mine[0]:
            self.sweeps = (mine[0][0], mine[1][0])

    async def _swept(self) -> None:
        if self.sweeps is not None:
            retry, extra, sweeps = self.random.choice([None, 30]), self.random.randrange(2), self.sweeps
            await self.both(
                lambda store, n: store.finish_sweep(sweeps[n], extra_runs=extra, retry_seconds=retry)
            )

    async def _wait(self) -> None:
        self.wait(self.random.choice([5, 60, 120, 700]))


def _equal(ours: Any, theirs: Any) -> None:
    if not (isinstance(ours, Job) and isinstance(theirs, Job)):
        assert ours == theirs
        return
    times = {"id", "project_id", "dataset_id", "training_config", "version", "cancel_requested_at"}
    for name in set(Job.__dataclass_fields__) - times:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert (ours.cancel_requested_at is None) == (theirs.cancel_requested_at is None)


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        with undisturbed(made):
            yield made


async def test_both_databases_answer_alike(world: World) -> None:
    key = world.stack.secret_key
    async with http_client() as http:
        sql = Database(world.stack.url, api_key=key, bearer=key, http=http)
        for seed in range(SEQUENCES):
            world.rows("delete from private.provider_breakers where provider = 'paired'")
            pair = Pair(world, sql, Random(seed))
            done: list[str] = []
            try:
                for _ in range(STEPS):
                    done.append(await pair.step())
            except AssertionError as error:
                raise AssertionError(f"seed {seed} after {done}") from error
            pair.wait(0)
            world.rows("update private.training_job_control set next_poll_at = 'infinity'")
            world.rows("update private.provider_attempts set next_sweep_at = 'infinity'")
