"""The job core on real Postgres, with a provider whose every answer is scripted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from devstack.up import Stack
from shared.datasets.store import build_training_file
from shared.db import Database, http_client
from shared.errors import (
    ProviderBusy,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
    ProviderRunNotFound,
    ProviderUnavailable,
)
from shared.jobs.advance import JobCore
from shared.jobs.model import Claim, Job
from shared.jobs.reconcile import Reconciler
from shared.jobs.state import JobStatus
from shared.jobs.store import JobStore, LeaseLost
from shared.jobs.timing import Timing
from shared.jobs.token import TrainerTokens
from shared.keys.crypto import KeyDoesNotOpen
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers.base import ProviderEvent, ProviderReport, ReportedStatus, StepMetrics
from shared.providers.local import LocalProvider
from shared.training.catalog import TINY, resolve
from shared.training.config import TrainingConfig
from shared.training.files import TrainingFile
from shared.training.spec import RunError, RunResult, RunState
from tests.functions.world import World, make_world, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

RESULT = RunResult(
    state=RunState.COMPLETED, artifact_path="/models/x", training_loss=0.1, metrics={"training_examples": 12}
)


@dataclass
class FakeKeys:
    """Holds one key for everybody, until it is marked invalid."""

    opened: OpenedKey | None = None
    invalid: str | None = None
    unreadable: bool = False

    async def open(self, user_id: UUID, provider: KeyProvider) -> OpenedKey | None:
        if self.unreadable:
            raise KeyDoesNotOpen("The stored key cannot be opened. Set it again.")
        if self.invalid:
            raise ProviderKeyInvalid(self.invalid)
        return self.opened

    async def mark_invalid(
        self, user_id: UUID, provider: KeyProvider, opened: OpenedKey, reason: str
    ) -> bool:
        self.invalid = reason
        return True


@dataclass
class Bench:
    """A job core over the stack, and jobs to move."""

    world: World
    core: JobCore
    provider: ScriptedProvider
    keys: FakeKeys

    async def new_job(self) -> UUID:
        dataset = await self.world.new_dataset(pairs=12)
        outcome, answer = await self.core.store.create(
            {
                "dataset_id": dataset,
                "user_id": self.world.user,
                "idempotency_key": str(uuid4()),
                "request_hash": "h",
                "provider": "scripted",
                "base_model": TINY,
                "method": "full",
                "model_name": f"model-{uuid4().hex[:6]}",
                "training_config": resolve(TrainingConfig(epochs=1), TINY, "full").model_dump(mode="json"),
                "timeout_seconds": 3600,
            }
        )
        assert outcome == "created"
        return UUID(answer["job"]["id"])

    async def step(self, job_id: UUID) -> Job:
        return await self.core.advance(job_id)

    async def job_in(self, status: JobStatus) -> UUID:
        """A job in this status, by the provider's own doing."""
        job_id = await self.new_job()
        if status == JobStatus.PENDING:
            return job_id
        if status == JobStatus.UPLOADING:
            self.provider.start_error = ProviderUnavailable("no answer")
            self.provider.created_although_it_failed = True
            await self.step(job_id)
            self.provider.start_error = None
            return job_id
        if status == JobStatus.VALIDATING:
            claim = await self.core.store.claim(job_id, lease_seconds=60)
            assert claim
            self.provider.runs[str(job_id)] = ProviderReport("validating")
            await self.core.store.move(
                claim,
                [JobStatus.UPLOADING, JobStatus.VALIDATING],
                release_seconds=86_400,
                provider_job_id=str(job_id),
                submit=True,
                sweep_after_seconds=300,
            )
            return job_id
        await self.step(job_id)
        if status == JobStatus.TRAINING:
            self.provider.runs[str(job_id)] = ProviderReport("training")
            await self.step(job_id)
        return job_id

    def past(self, job_id: UUID, column: str, *, seconds: int = 1) -> None:
        self.world.rows(
            f"update public.training_jobs set {column} = now() - make_interval(secs => {seconds})"
            " where id = %s",
            job_id,
        )

    def control(self, job_id: UUID, change: str) -> None:
        self.world.rows(f"update private.training_job_control set {change} where job_id = %s", job_id)

    def due(self, *job_ids: UUID) -> None:
        for number, job_id in enumerate(job_ids):
            self.control(job_id, f"next_poll_at = now() - interval '1 hour' + interval '{number} seconds'")

    def due_in(self, job_id: UUID) -> float:
        return float(
            self.world.rows(
                "select extract(epoch from next_poll_at - now()) from private.training_job_control"
                " where job_id = %s",
                job_id,
            )[0][0]
        )

    def error(self, job_id: UUID) -> dict[str, str]:
        return dict(self.world.rows("select error from public.training_jobs where id = %s", job_id)[0][0])

    def dataset_status(self, job_id: UUID) -> str:
        return str(
            self.world.rows(
                "select d.status from public.training_datasets d"
                " join public.training_jobs j on j.dataset_id = d.id where j.id = %s",
                job_id,
            )[0][0]
        )


@pytest.fixture(scope="module")
async def shared_world(stack: Stack) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    async with make_world(stack) as world, http_client() as http:
        with undisturbed(world):  # the stack's own functions do not know the scripted provider
            yield world, http
            world.rows(
                "update public.training_jobs set status = 'cancelled' where provider = 'scripted'"
                " and status not in ('completed', 'failed', 'cancelled')"
            )


@pytest.fixture
def bench(shared_world: tuple[World, httpx.AsyncClient]) -> Bench:
    world, http = shared_world
    key = world.stack.secret_key
    db = Database(world.stack.url, api_key=key, bearer=key, http=http)
    provider = ScriptedProvider()
    keys = FakeKeys()
    core = JobCore(
        store=JobStore(db),
        providers={"scripted": provider, "local": LocalProvider(world.stack.data_dir)},
        tokens=TrainerTokens(SecretStr("x" * 32)),
        report_url="http://127.0.0.1:1/report-training",
        build_training_file=lambda dataset_id, method: build_training_file(db, dataset_id, method),
        keys=keys,
    )
    world.rows("delete from private.provider_breakers")
    return Bench(world, core, provider, keys)


async def test_a_good_job_ends_with_a_registered_model(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    assert bench.dataset_status(job_id) == "training"
    bench.provider.runs[str(job_id)] = ProviderReport("completed", result=RESULT, cost_usd=0.0)
    job = await bench.step(job_id)
    assert job.status == JobStatus.COMPLETED
    assert bench.dataset_status(job_id) == "ready"
    model = bench.world.rows(
        "select m.version, m.is_latest, m.artifact_path, m.training_examples, j.model_id = m.id,"
        " j.progress_percent from public.fine_tuned_models m"
        " join public.training_jobs j on j.id = m.job_id where j.id = %s",
        job_id,
    )
    assert model == [(1, True, "/models/x", 12, True, 100)]


async def test_a_provider_that_skips_states_is_followed(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.QUEUED)
    bench.provider.runs[str(job_id)] = ProviderReport("completed", result=RESULT)
    assert (await bench.step(job_id)).status == JobStatus.COMPLETED
    moves = bench.world.rows(
        "select data->>'to' from public.training_job_events"
        " where job_id = %s and type = 'status' order by id",
        job_id,
    )
    assert [move[0] for move in moves] == [
        "pending", "uploading", "validating", "queued", "training", "completed",
    ]  # fmt: skip


async def test_a_lost_answer_is_found_again_and_nothing_starts_twice(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.UPLOADING)
    job = await bench.step(job_id)
    assert job.status == JobStatus.QUEUED
    assert (bench.provider.created, job.attempt) == (1, 1)


async def test_an_unknown_start_is_not_repeated_before_the_grace(bench: Bench) -> None:
    bench.provider.start_error = ProviderUnavailable("timeout")
    job_id = await bench.new_job()
    await bench.step(job_id)
    bench.provider.start_error = None
    for _ in range(3):
        job = await bench.step(job_id)
    assert (job.status, bench.provider.created) == (JobStatus.UPLOADING, 0)
    bench.world.rows(
        "update public.training_jobs set submitted_at = now() - interval '3 minutes' where id = %s", job_id
    )
    assert (await bench.step(job_id)).status == JobStatus.PENDING
    job = await bench.step(job_id)
    assert (job.status, bench.provider.created, job.attempt) == (JobStatus.QUEUED, 1, 2)


@pytest.mark.parametrize("no", [ProviderRejected, ProviderNotEligible])
async def test_a_definite_no_fails_the_job_and_frees_the_dataset(
    bench: Bench, no: type[ProviderRejected] | type[ProviderNotEligible]
) -> None:
    bench.provider.start_error = no("quota is used up", code="quota")
    job_id = await bench.new_job()
    assert (await bench.step(job_id)).status == JobStatus.FAILED
    assert bench.dataset_status(job_id) == "ready"
    error = bench.world.rows("select error from public.training_jobs where id = %s", job_id)[0][0]
    assert (error["code"], error["message"]) == ("quota", "quota is used up")
    assert ("alternative" in error.get("details", {})) == (no is ProviderNotEligible)


async def test_silence_of_a_provider_changes_nothing(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.poll_error = ProviderUnavailable("503")
    for _ in range(4):
        assert (await bench.step(job_id)).status == JobStatus.TRAINING
    bench.provider.poll_error = None
    bench.provider.runs[str(job_id)] = ProviderReport(
        "failed", error=RunError(code="loss_is_nan", message="NaN.")
    )
    assert (await bench.step(job_id)).status == JobStatus.FAILED


@pytest.mark.parametrize(
    "status",
    [JobStatus.PENDING, JobStatus.UPLOADING, JobStatus.VALIDATING, JobStatus.QUEUED, JobStatus.TRAINING],
)
async def test_cancel_in_each_state(bench: Bench, status: JobStatus) -> None:
    job_id = await bench.job_in(status)
    assert (await bench.core.store.get(job_id)).status == status
    outcome, _ = await bench.core.store.request_cancel(job_id)
    assert outcome == "requested"
    for _ in range(3):
        job = await bench.step(job_id)
        if job.status == JobStatus.CANCELLED:
            break
    assert job.status == JobStatus.CANCELLED
    assert bench.provider.cancelled == ([] if status == JobStatus.PENDING else [str(job_id)])
    assert bench.dataset_status(job_id) == "ready"
    assert (await bench.core.store.request_cancel(job_id))[0] == "already_ended"


async def test_a_job_that_completes_before_the_cancel_stays_completed(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.on_cancel = ProviderReport("completed", result=RESULT)
    await bench.core.store.request_cancel(job_id)
    assert (await bench.step(job_id)).status == JobStatus.COMPLETED


async def test_a_job_past_its_deadline_is_stopped_and_fails_when_it_has_stopped(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.on_cancel = None
    bench.past(job_id, "deadline_at")
    assert (await bench.step(job_id)).status == JobStatus.TRAINING
    assert bench.provider.cancelled == [str(job_id)]
    bench.provider.runs[str(job_id)] = ProviderReport("cancelled")
    assert (await bench.step(job_id)).status == JobStatus.FAILED
    assert bench.error(job_id)["code"] == "deadline_exceeded"


async def test_a_run_that_completes_in_spite_of_its_deadline_is_kept(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.on_cancel = ProviderReport("completed", result=RESULT)
    bench.past(job_id, "deadline_at")
    assert (await bench.step(job_id)).status == JobStatus.COMPLETED


async def test_a_stop_that_is_never_confirmed_is_given_up(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.on_cancel = None
    await bench.core.store.request_cancel(job_id)
    assert (await bench.step(job_id)).status == JobStatus.TRAINING
    bench.past(job_id, "cancel_requested_at", seconds=3601)
    assert (await bench.step(job_id)).status == JobStatus.FAILED
    assert bench.error(job_id)["code"] == "stop_not_confirmed"


async def test_a_run_that_reaches_its_spend_cap_is_stopped(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.world.rows(
        "update public.training_jobs set usd_per_second = 1, spend_cap_usd = 5 where id = %s", job_id
    )
    bench.past(job_id, "started_at", seconds=10)
    assert (await bench.step(job_id)).status == JobStatus.FAILED
    assert bench.error(job_id)["code"] == "spend_cap_reached"
    cost = bench.world.rows("select cost_usd from public.training_jobs where id = %s", job_id)[0][0]
    assert 10 <= cost < 30


async def test_a_busy_provider_is_asked_again_when_it_said(bench: Bench) -> None:
    bench.provider.start_error = ProviderBusy("slow down", retry_after_seconds=40)
    job_id = await bench.new_job()
    job = await bench.step(job_id)
    assert (job.status, job.attempt, bench.provider.created) == (JobStatus.PENDING, 1, 0)
    assert bench.due_in(job_id) > 38
    assert await bench.core.store.claim(job_id, lease_seconds=5) is None, "the account is left alone"
    ledger = bench.world.rows("select outcome from private.provider_attempts where job_id = %s", job_id)
    assert ledger == [("refused",)]


async def test_failures_of_an_account_pause_all_its_jobs_there_and_one_tries_again(bench: Bench) -> None:
    jobs = [await bench.job_in(JobStatus.TRAINING) for _ in range(3)]
    bench.provider.poll_error = ProviderUnavailable("503")
    for _ in range(5):
        await bench.step(jobs[0])
    assert [await bench.core.store.claim(job, lease_seconds=5) for job in jobs] == [None] * 3
    bench.world.rows("update private.provider_breakers set open_until = now() - interval '1 second'")
    bench.due(*jobs)
    on_trial = [Claim.from_row(row) for row in await bench.core.store.claim_due(100, lease_seconds=60)]
    assert [claim.job.id for claim in on_trial if claim.job.id in jobs] == [jobs[0]]
    bench.provider.poll_error = None
    await bench.core.step(on_trial[0])
    assert len(await bench.core.store.claim_due(100, lease_seconds=5)) >= 2


async def test_a_refused_key_pauses_the_jobs_of_its_user_until_there_is_another(bench: Bench) -> None:
    bench.provider.key = "openai"
    bench.keys.opened = OpenedKey(SecretStr("sk-first"))
    running, waiting = await bench.job_in(JobStatus.TRAINING), await bench.new_job()
    bench.provider.poll_error = ProviderKeyInvalid("The key was revoked.")
    bench.provider.start_error = ProviderKeyInvalid("The key was revoked.")
    assert (await bench.step(running)).status == JobStatus.TRAINING
    job = await bench.step(waiting)
    assert (job.status, job.current_step) == (JobStatus.PENDING, "The key was revoked.")
    assert bench.due_in(running) > 200
    bench.keys.invalid, bench.keys.opened = None, OpenedKey(SecretStr("sk-second"))
    bench.provider.poll_error = bench.provider.start_error = None
    assert (await bench.step(running)).status == JobStatus.TRAINING
    assert (await bench.step(waiting)).status == JobStatus.QUEUED
    assert bench.provider.keys[-1] == bench.keys.opened


async def test_a_job_waits_for_a_key_that_opens(bench: Bench) -> None:
    bench.provider.key = "openai"
    bench.keys.unreadable = True
    job_id = await bench.new_job()
    job = await bench.step(job_id)
    assert (job.status, job.current_step) == (
        JobStatus.PENDING,
        "The stored key cannot be opened. Set it again.",
    )
    bench.keys.unreadable = False
    job = await bench.step(job_id)
    assert job.current_step == "Waiting for your openai key: set it with manage-api-keys."
    bench.keys.opened = OpenedKey(SecretStr("sk-readable"))
    assert (await bench.step(job_id)).status == JobStatus.QUEUED


async def test_a_run_is_lost_only_after_many_404s_over_a_quarter_of_an_hour(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.poll_error = ProviderRunNotFound("no such run")
    for _ in range(8):
        assert (await bench.step(job_id)).status == JobStatus.TRAINING
    bench.provider.poll_error = None
    await bench.step(job_id)  # an answer in between: counted from the beginning
    bench.provider.poll_error = ProviderRunNotFound("no such run")
    bench.control(job_id, "not_found_since = now() - interval '16 minutes'")
    assert (await bench.step(job_id)).status == JobStatus.TRAINING
    bench.control(job_id, "not_found_since = now() - interval '16 minutes', not_found = 4")
    assert (await bench.step(job_id)).status == JobStatus.FAILED
    assert bench.error(job_id)["code"] == "provider_lost_run"


async def test_history_of_a_provider_is_stored_once(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    told = ProviderReport(
        "training",
        events=(ProviderEvent("e1", "step 1"), ProviderEvent("e2", "a warning", "warning", {"n": 1})),
        metrics=(StepMetrics(1, training_loss=2.0), StepMetrics(2, training_loss=1.0)),
        cursor="e2",
    )
    bench.provider.runs[str(job_id)] = told
    for _ in range(3):
        await bench.step(job_id)
    events = bench.world.rows(
        "select message, level from public.training_job_events where job_id = %s and type = 'provider'"
        " order by id",
        job_id,
    )
    assert events == [("step 1", "info"), ("a warning", "warning")]
    metrics = "select step, training_loss from public.training_metrics where job_id = %s order by step"
    assert bench.world.rows(metrics, job_id) == [(1, 2.0), (2, 1.0)]
    claim = await bench.core.store.claim(job_id, lease_seconds=5)
    assert claim
    assert claim.cursor == "e2"


async def test_nothing_new_writes_no_row(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    before = (await bench.core.store.get(job_id)).version
    for _ in range(3):
        await bench.step(job_id)
    assert (await bench.core.store.get(job_id)).version == before


async def test_a_second_run_is_found_and_stopped(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    extra = f"{job_id}-late"
    bench.provider.runs[extra] = ProviderReport("training")
    bench.world.rows("update private.provider_attempts set next_sweep_at = now() where job_id = %s", job_id)
    await Reconciler(bench.core).tick()
    assert bench.provider.cancelled == [extra]
    ledger = (
        "select sweeps, extra_runs, next_sweep_at > now() from private.provider_attempts where job_id = %s"
    )
    assert bench.world.rows(ledger, job_id) == [(1, 1, True)]


async def test_the_run_of_a_deleted_job_is_stopped(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.world.rows("delete from public.training_jobs where id = %s", job_id)
    await Reconciler(bench.core).tick()
    assert bench.provider.cancelled == [str(job_id)]


async def test_an_attempt_that_a_trainer_claimed_is_not_given_up(bench: Bench) -> None:
    bench.provider.start_error = ProviderUnavailable("timeout")
    job_id = await bench.new_job()
    await bench.step(job_id)
    claim = await bench.core.store.claim(job_id, lease_seconds=60)
    assert claim
    await bench.core.store.report(
        job_id, attempt=1, run_id=uuid4(), reports=[{"seq": 1, "kind": "claim"}], provider_job_id="fc-1"
    )
    job = await bench.core.store.move(claim, [JobStatus.PENDING], release_seconds=0, outcome="not_found")
    assert job.status == JobStatus.UPLOADING
    bench.provider.runs["fc-1"] = ProviderReport("training")
    assert (await bench.step(job_id)).provider_job_id == "fc-1"


@pytest.mark.parametrize("said", ["completed", "failed"])
async def test_a_result_that_comes_while_the_provider_is_asked_counts(
    bench: Bench, said: ReportedStatus
) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    claim = await bench.core.store.claim(job_id, lease_seconds=60)  # knows of no result
    assert claim
    result = {"seq": 2, "kind": "result", "result": RESULT.model_dump(mode="json")}
    reports = [{"seq": 1, "kind": "claim"}, result]
    await bench.core.store.report(job_id, attempt=1, run_id=uuid4(), reports=reports)
    bench.provider.runs[str(job_id)] = ProviderReport(said)  # its process has ended
    await bench.core.step(claim)
    assert (await bench.step(job_id)).status == JobStatus.COMPLETED


async def test_a_step_that_takes_too_long_is_not_held_against_the_provider(bench: Bench) -> None:
    async def never(dataset_id: UUID, method: str) -> TrainingFile:
        await asyncio.sleep(60)
        raise AssertionError

    slow = replace(bench.core, timing=Timing(step=0.1), build_training_file=never)
    for _ in range(6):
        job_id = await bench.new_job()
        assert (await slow.advance(job_id)).status == JobStatus.PENDING
    assert bench.world.rows("select * from private.provider_breakers") == []


async def test_what_nobody_foresaw_stops_no_other_job(bench: Bench) -> None:
    jobs = [await bench.job_in(JobStatus.TRAINING) for _ in range(20)]
    bench.provider.runs[str(jobs[3])] = None  # type: ignore[assignment] # what no provider would answer
    unreadable = "update private.training_job_control set trainer_result = '{}' where job_id = %s"
    bench.world.rows(unreadable, jobs[7])
    bench.due(*jobs)
    await Reconciler(bench.core, concurrency=5).tick()
    crashes = dict(
        bench.world.rows(
            "select job_id, crashes from private.training_job_control where job_id = any(%s)", jobs
        )
    )
    assert [crashes[job] for job in jobs] == [int(job == jobs[3]) for job in jobs]
    assert all(bench.due_in(job) > -60 for job in jobs), "each was due for an hour and has been looked at"


async def test_twenty_callers_start_one_run(bench: Bench) -> None:
    job_id = await bench.new_job()
    await asyncio.gather(*(bench.core.advance(job_id) for _ in range(20)))
    assert bench.provider.created == 1
    assert (await bench.core.store.get(job_id)).attempt == 1


async def test_who_lost_the_lease_writes_nothing(bench: Bench) -> None:
    job_id = await bench.new_job()
    store = bench.core.store
    old = await store.claim(job_id, lease_seconds=60)
    assert old
    assert await store.claim(job_id, lease_seconds=60) is None
    bench.world.rows(
        "update private.training_job_control set lease_expires_at = now() - interval '1 second'"
        " where job_id = %s",
        job_id,
    )
    new = await store.claim(job_id, lease_seconds=60)
    assert new
    with pytest.raises(LeaseLost):
        await store.move(old, [JobStatus.FAILED])
    assert (
        await store.move(new, [JobStatus.UPLOADING], release_seconds=86_400)
    ).status == JobStatus.UPLOADING


async def test_the_version_only_grows_and_a_claim_is_no_change(bench: Bench) -> None:
    job_id = await bench.new_job()
    before = (await bench.core.store.get(job_id)).version
    assert await bench.core.store.claim(job_id, lease_seconds=60)
    assert (await bench.core.store.get(job_id)).version == before


async def test_reports_are_stored_once_and_a_second_trainer_is_told_to_stop(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    trainer, other = uuid4(), uuid4()
    progress = {"progress_percent": 50, "current_step": "Training...", "step": 5, "training_loss": 1.5}
    reports = [
        {"seq": 1, "kind": "claim"},
        {"seq": 2, "kind": "progress", "progress": progress},
        {"seq": 3, "kind": "event", "message": "a row was left out", "level": "warning", "data": {}},
    ]
    for _ in range(2):
        answer = await bench.core.store.report(job_id, attempt=1, run_id=trainer, reports=reports)
        assert (answer["outcome"], answer["accepted_seq"]) == ("accepted", 3)
    events = bench.world.rows(
        "select message from public.training_job_events where job_id = %s and type = 'trainer'", job_id
    )
    assert events == [("a row was left out",)]
    assert bench.world.rows("select count(*) from public.training_metrics where job_id = %s", job_id) == [
        (1,)
    ]
    lost = await bench.core.store.report(
        job_id, attempt=1, run_id=other, reports=[{"seq": 9, "kind": "claim"}]
    )
    assert lost["outcome"] == "claim_lost"
    stale = await bench.core.store.report(
        job_id, attempt=0, run_id=trainer, reports=[{"seq": 9, "kind": "claim"}]
    )
    assert stale["outcome"] == "claim_lost"
