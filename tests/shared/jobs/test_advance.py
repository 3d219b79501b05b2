"""The job core on real Postgres, with a provider whose every answer is scripted."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from devstack.up import Stack
from shared.datasets.store import build_training_file
from shared.db import Database, http_client
from shared.errors import ProviderNotEligible, ProviderRejected, ProviderUnavailable
from shared.jobs.advance import JobCore
from shared.jobs.model import Job
from shared.jobs.state import JobStatus
from shared.jobs.store import JobStore, LeaseLost
from shared.jobs.token import TrainerTokens
from shared.providers.base import ProviderReport
from shared.training.catalog import TINY, resolve
from shared.training.spec import RunError, RunResult, RunState, TrainingConfig
from tests.functions.world import World, make_world, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

RESULT = RunResult(
    state=RunState.COMPLETED, artifact_path="/models/x", training_loss=0.1, metrics={"training_examples": 12}
)


@dataclass
class Bench:
    """A job core over the stack, and jobs to move."""

    world: World
    core: JobCore
    provider: ScriptedProvider

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
            )
            return job_id
        await self.step(job_id)
        if status == JobStatus.TRAINING:
            self.provider.runs[str(job_id)] = ProviderReport("training")
            await self.step(job_id)
        return job_id

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
    core = JobCore(
        store=JobStore(db),
        providers={"scripted": provider},
        tokens=TrainerTokens(SecretStr("x" * 32)),
        report_url="http://127.0.0.1:1/report-training",
        build_training_file=lambda dataset_id: build_training_file(db, dataset_id),
    )
    return Bench(world, core, provider)


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
        "update public.training_jobs set submitted_at = now() - interval '2 minutes' where id = %s", job_id
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
    assert error == {"code": "quota", "message": "quota is used up"}


async def test_silence_of_a_provider_changes_nothing(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.poll_error = ProviderUnavailable("503")
    for _ in range(5):
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


async def test_a_job_past_its_deadline_is_stopped(bench: Bench) -> None:
    job_id = await bench.job_in(JobStatus.TRAINING)
    bench.provider.on_cancel = None
    bench.world.rows(
        "update public.training_jobs set deadline_at = now() - interval '1 second' where id = %s", job_id
    )
    assert (await bench.step(job_id)).status == JobStatus.FAILED
    assert bench.provider.cancelled == [str(job_id)]
    error = bench.world.rows("select error->>'code' from public.training_jobs where id = %s", job_id)[0][0]
    assert error == "deadline_exceeded"


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
