"""From a job's change to the receiver: at once, signed, again after a failure, never at the job's cost."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from aiohttp import web
from psycopg.rows import dict_row
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from devstack.secrets_file import load_secrets
from devstack.up import Stack
from shared.db import Database, http_client
from shared.keys.crypto import KeySealer
from shared.webhooks.deliver import AT_ONCE_PER_ENDPOINT, RETRY_SECONDS, deliver_due
from shared.webhooks.model import event_data
from shared.webhooks.store import WebhookStore
from tests.conftest import Figure
from tests.functions.jobs import TO_TRAINING, move, new_job, row_of
from tests.functions.world import World, make_world, undisturbed
from tests.shared.webhooks.receiver import receiver, status


@pytest.fixture(scope="module")
async def shared_world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        with undisturbed(made):
            yield made


@pytest.fixture
def world(shared_world: World) -> World:
    """Nobody is to be told anything."""
    shared_world.rows("delete from webhook_endpoints")
    return shared_world


@pytest.fixture
async def store(stack: Stack) -> AsyncIterator[WebhookStore]:
    """What a functions server has."""
    async with http_client() as http:
        db = Database(stack.url, api_key=stack.secret_key, bearer=stack.secret_key, http=http)
        yield WebhookStore(db, KeySealer(load_secrets(stack.data_dir).api_key_encryption_secret))


async def endpoint(store: WebhookStore, world: World, url: str, **columns: Any) -> tuple[str, SecretStr]:
    settings = {"url": url, "description": "", "events": ["finetune_job_completed"]} | columns
    row, secret = await store.create({"project_id": world.project, "created_by": world.user} | settings)
    return row["id"], secret


ALL = [f"finetune_job_{what}" for what in ("started", "progress", "completed", "failed", "cancelled")]


@contextmanager
def by_hand(world: World) -> Iterator[None]:
    """The test alone delivers: neither the stack's schedule nor new events do."""
    world.rows("update private.schedules set name = 'put off' where name = 'deliver-webhooks'")
    world.rows("alter function private.call_function(text, jsonb) rename to call_function_for_real")
    world.rows(
        "create function private.call_function(name text, body jsonb) returns void language sql"
        " set search_path = '' as 'select null'"
    )
    world.rows("grant execute on function private.call_function(text, jsonb) to service_role")
    try:
        yield
    finally:
        world.rows("drop function private.call_function(text, jsonb)")
        world.rows("alter function private.call_function_for_real(text, jsonb) rename to call_function")
        world.rows("update private.schedules set name = 'deliver-webhooks' where name = 'put off'")


def due(world: World, endpoint_id: str, count: int = 1, event_type: str = "finetune_job_completed") -> None:
    """So many events for the endpoint that are due now, without a job."""
    world.rows(
        "insert into webhook_deliveries (endpoint_id, project_id, event_id, type, payload)"
        " select e.id, e.project_id, gen_random_uuid(), %s, jsonb_build_object('type', %s::text, 'n', n)"
        " from webhook_endpoints e, generate_series(1, %s) n where e.id = %s",
        event_type, event_type, count, endpoint_id,
    )  # fmt: skip


def make_due(world: World, endpoint_id: str) -> None:
    world.rows("update webhook_deliveries set next_attempt_at = now() where endpoint_id = %s", endpoint_id)


def log(world: World, endpoint_id: str) -> list[dict[str, Any]]:
    with psycopg.connect(world.stack.database_url, row_factory=dict_row) as database:
        return database.execute(
            "select *, extract(epoch from next_attempt_at - now())::float as wait_seconds"
            " from webhook_deliveries where endpoint_id = %s order by created_at, type",
            [endpoint_id],
        ).fetchall()


async def deliver(store: WebhookStore) -> int:
    return await deliver_due(store, allow_private_addresses=True)


async def test_a_life_is_told_within_a_second_or_two(
    world: World, store: WebhookStore, figure: Figure
) -> None:
    """By the stack itself: trigger, call, delivery."""
    async with receiver() as there:
        _, secret = await endpoint(store, world, there.url, events=ALL)
        job = new_job(world)
        begun = time.monotonic()
        await asyncio.to_thread(move, world, job, *TO_TRAINING)
        started = await there.wait_for("finetune_job_started")
        expected = event_data(row_of(world, job))
        await asyncio.to_thread(move, world, job, progress_percent=12.5, current_step="Step 5 of 40")
        progress = await there.wait_for("finetune_job_progress")
        await asyncio.to_thread(move, world, job, cost_usd=0.0203, progress_percent=100)
        await asyncio.to_thread(move, world, job, "completed")
        await there.wait_for("finetune_job_completed")
    figure(f"from the first write to the receiver: {started.at - begun:.3f} s")
    assert started.at - begun < 2
    signer = Webhook(secret.get_secret_value())
    told = [signer.verify(message.raw, message.headers) for message in there.messages]
    assert there.types == ["finetune_job_started", "finetune_job_progress", "finetune_job_completed"]
    assert told[0]["data"] == expected
    assert (told[1]["data"]["progressPercent"], told[1]["data"]["currentStep"]) == (12.5, "Step 5 of 40")
    assert told[2]["data"]["status"] == "completed"
    versions = [said["data"]["version"] for said in told]
    assert versions == sorted(set(versions))
    assert len({message.headers["webhook-id"] for message in there.messages}) == 3
    assert all(len(message.raw) < 20_000 for message in there.messages)
    assert progress.headers["content-type"] == "application/json"


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_the_other_ends_are_told_too(world: World, store: WebhookStore, end: str) -> None:
    with by_hand(world):
        webhook, _ = await endpoint(store, world, "http://127.0.0.1:9/", events=ALL)
        job = new_job(world)
        error = {"code": "out_of_memory", "message": "The GPU is too small. é€" * 200, "key": "not ours"}
        move(world, job, "uploading", error=json.dumps(error))
        move(world, job, end)
        (row,) = log(world, webhook)
    assert (row["type"], row["payload"]["data"]["status"]) == (f"finetune_job_{end}", end)
    assert row["payload"]["data"] == event_data(row_of(world, job))
    assert row["payload"]["data"]["error"] == {"code": error["code"], "message": error["message"][:1000]}
    assert set(row["payload"]) == {"type", "timestamp", "data"}


async def test_only_what_was_asked_for_by_who_is_enabled(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        some, _ = await endpoint(store, world, "http://a.test/", events=["finetune_job_failed"])
        off, _ = await endpoint(store, world, "http://b.test/", events=ALL)
        await store.update(off, {"enabled": False})  # type: ignore[arg-type]  # the id as text
        every, _ = await endpoint(store, world, "http://c.test/", events=ALL)
        job = new_job(world)
        move(world, job, *TO_TRAINING, "failed")
        assert [row["type"] for row in log(world, some)] == ["finetune_job_failed"]
        assert log(world, off) == []
        told = log(world, every)
        assert sorted(row["type"] for row in told) == ["finetune_job_failed", "finetune_job_started"]
        same = {row["event_id"] for row in log(world, some)} & {row["event_id"] for row in told}
        assert len(same) == 1, "an event has one id, wherever it goes"


async def test_progress_is_put_off_and_replaced_and_never_queued(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        async with receiver() as there:
            webhook, _ = await endpoint(store, world, there.url, events=["finetune_job_progress"])
            job = new_job(world)
            move(world, job, *TO_TRAINING)
            for percent in range(1, 6):
                move(world, job, progress_percent=percent)
            (row,) = log(world, webhook)
            assert row["payload"]["data"]["progressPercent"] == 5
            begun = time.monotonic()
            assert await deliver(store) == 1
            for percent in range(6, 50):
                move(world, job, progress_percent=percent)
            _, row = log(world, webhook)
            assert row["payload"]["data"]["progressPercent"] == 49
            assert 10 - (time.monotonic() - begun) < row["wait_seconds"] <= 10
            assert await deliver(store) == 0
            move(world, job, training_loss=0.5)  # no news worth a message
            assert log(world, webhook)[1]["payload"]["data"]["progressPercent"] == 49
            move(world, job, "completed")
            make_due(world, webhook)
            assert await deliver(store) == 0
            assert [row["status"] for row in log(world, webhook)] == ["delivered", "skipped"]
        assert [message.body["data"]["progressPercent"] for message in there.messages] == [5]


async def test_a_failing_progress_hands_its_turn_to_the_newer(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        webhook, _ = await endpoint(store, world, "http://127.0.0.1:9/", events=["finetune_job_progress"])
        job = new_job(world)
        move(world, job, *TO_TRAINING, progress_percent=1)
        (held,) = await store.claim(5, per_endpoint=5)
        move(world, job, progress_percent=2)
        move(world, job, progress_percent=3)
        await store.finish(held, status_code=None, error="no", retry_seconds=300)
        first, second = log(world, webhook)
    assert (first["status"], second["status"]) == ("skipped", "pending")
    assert (second["attempts"], second["payload"]["data"]["progressPercent"]) == (1, 3)
    assert 290 < second["wait_seconds"] <= 300


async def test_what_is_rolled_back_was_never_told(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        webhook, _ = await endpoint(store, world, "http://a.test/", events=ALL)
        job = new_job(world)
        with psycopg.connect(world.stack.database_url) as database:
            for step in TO_TRAINING:
                database.execute("update training_jobs set status = %s where id = %s", [step, job])
            assert database.execute(
                "select count(*) from webhook_deliveries where endpoint_id = %s", [webhook]
            ).fetchone() == (1,)
            database.rollback()
        assert log(world, webhook) == []


@pytest.mark.parametrize(
    "broken",
    [
        "alter table public.webhook_deliveries add constraint never check (false) not valid",
        "alter table public.webhook_deliveries rename column payload to gone",
        "drop function private.job_event(text, public.training_jobs)",
        "alter table public.webhook_deliveries alter column type type varchar(3) using 'abc'",
    ],
)
async def test_a_job_is_written_also_when_nobody_can_be_told(
    world: World, store: WebhookStore, broken: str
) -> None:
    await endpoint(store, world, "http://a.test/", events=ALL)
    job = new_job(world)
    with psycopg.connect(world.stack.database_url) as database:
        database.execute("set local lock_timeout = '5s'")
        database.execute(broken)
        for step in (*TO_TRAINING, "completed"):
            database.execute("update training_jobs set status = %s where id = %s", [step, job])
        assert database.execute("select status from training_jobs where id = %s", [job]).fetchone() == (
            "completed",
        )
        database.rollback()


async def test_retries_wait_longer_and_longer_and_end(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        async with receiver(status(500)) as there:
            webhook, _ = await endpoint(store, world, there.url)
            due(world, webhook)
            waits = []
            for _ in RETRY_SECONDS:
                assert await deliver(store) == 1
                (row,) = log(world, webhook)
                assert (row["status"], row["last_status_code"], row["last_error"]) == ("pending", 500, "500:")
                assert await deliver(store) == 0
                waits.append(row["wait_seconds"])
                make_due(world, webhook)
            assert await deliver(store) == 1
            (row,) = log(world, webhook)
        assert (row["status"], row["attempts"]) == ("dead", len(RETRY_SECONDS) + 1)
        for wait, planned in zip(waits, RETRY_SECONDS, strict=True):
            assert 0.79 * planned - 1 < wait < 1.21 * planned
        assert timedelta(seconds=sum(RETRY_SECONDS)) > timedelta(days=3)
        assert len({message.headers["webhook-id"] for message in there.messages}) == 1
        assert len({message.raw for message in there.messages}) == 1
        assert world.rows("select enabled from webhook_endpoints where id = %s", webhook) == [(True,)]


async def test_retry_after_is_honoured(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        for seconds, low, high in (("120", 115, 120), ("0", 3, 7), ("99999999", 86_400, 103_700)):
            async with receiver(status(429, retry_after=seconds)) as there:
                webhook, _ = await endpoint(store, world, there.url)
                due(world, webhook)
                await deliver(store)
                (row,) = log(world, webhook)
                assert low < row["wait_seconds"] <= high, seconds


async def test_gone_disables_at_once(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        async with receiver(status(410)) as there:
            webhook, _ = await endpoint(store, world, there.url)
            due(world, webhook, 10)
            attempts = await deliver(store)
        assert attempts <= 2 * AT_ONCE_PER_ENDPOINT
        assert {row["status"] for row in log(world, webhook)} == {"dead"}
        assert world.rows(
            "select enabled, disabled_reason from webhook_endpoints where id = %s", webhook
        ) == [(False, "The endpoint answered 410 Gone.")]


async def test_days_without_success_disable(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        answers = [204, 500, 500]
        async with receiver(lambda n: web.Response(status=answers[n])) as there:
            webhook, _ = await endpoint(store, world, there.url)
            last = f"update webhook_deliveries set attempts = {len(RETRY_SECONDS)} where status = 'pending'"
            old = "update webhook_endpoints set failing_since = now() - interval '4 days' where id = %s"
            state = "select enabled, failing_since is null from webhook_endpoints where id = %s"
            for expected in ((True, True), (True, False)):  # a success forgives; then a new failure begins
                world.rows(old, webhook) if expected[1] else None
                due(world, webhook)
                world.rows(last)
                await deliver(store)
                assert world.rows(state, webhook) == [expected]
            world.rows(old, webhook)
            due(world, webhook)
            world.rows(last)
            due(world, webhook)
            put_off = "update webhook_deliveries set next_attempt_at = now() + interval '1 day'"
            world.rows(f"{put_off} where attempts = 0")
            await deliver(store)
        assert world.rows(state, webhook) == [(False, False)]
        ((reason,),) = world.rows("select disabled_reason from webhook_endpoints where id = %s", webhook)
        assert reason.startswith("Nothing could be delivered since 20")
        statuses = Counter((row["status"], row["last_error"]) for row in log(world, webhook))
        assert statuses == {
            ("delivered", None): 1,
            ("dead", "500:"): 2,
            ("dead", "The endpoint was disabled."): 1,
        }


async def test_a_slow_endpoint_delays_nobody(world: World, store: WebhookStore, figure: Figure) -> None:
    with by_hand(world):
        async with receiver(delay_seconds=3) as slow, receiver() as quick:
            bad, _ = await endpoint(store, world, slow.url)
            good, _ = await endpoint(store, world, quick.url)
            due(world, bad, 40)
            due(world, good, 40)
            begun = time.monotonic()
            delivering = asyncio.create_task(
                deliver_due(store, allow_private_addresses=True, patience_seconds=2.5)
            )
            while len(quick.messages) < 40:
                await asyncio.sleep(0.02)
                assert time.monotonic() - begun < 10
            took = time.monotonic() - begun
            assert len(slow.messages) <= AT_ONCE_PER_ENDPOINT
            due(world, good)  # also what comes while the slow one is waited for
            while len(quick.messages) < 41:
                await asyncio.sleep(0.02)
                assert time.monotonic() - begun < 10
            late = time.monotonic() - begun - took
            await delivering
    figure(f"40 deliveries beside a hanging endpoint: {took:.2f} s; one more: {late:.2f} s")
    assert took < 2.9
    assert late < 2.5


async def test_three_senders_share_the_work(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        async with receiver() as there:
            ids = [(await endpoint(store, world, f"{there.url}/{n}"))[0] for n in range(10)]
            for webhook in ids:
                due(world, webhook, 4)
            attempts = await asyncio.gather(*(deliver(store) for _ in range(3)))
        assert sum(attempts) == 40
        sent = Counter(message.headers["webhook-id"] for message in there.messages)
        assert (len(sent), set(sent.values())) == (40, {1})


async def test_a_sender_that_died_is_replaced_when_its_lease_ends(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        async with receiver() as there:
            webhook, _ = await endpoint(store, world, there.url)
            due(world, webhook)
            (dead,) = await store.claim(1, per_endpoint=1)
            assert await deliver(store) == 0
            world.rows("update webhook_deliveries set lease_expires_at = now() where id = %s", dead.id)
            assert await deliver(store) == 1
            await store.finish(dead, status_code=500, error="late", retry_seconds=1)  # its lease is lost
        (row,) = log(world, webhook)
        assert (row["status"], row["attempts"], row["last_error"]) == ("delivered", 2, None)


async def test_a_secret_that_cannot_sign_is_an_attempt_that_failed(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        async with receiver() as there:
            one, _ = await endpoint(store, world, there.url)
            other, _ = await endpoint(store, world, there.url)
            swap = "update webhook_secrets set ciphertext = (select ciphertext from webhook_secrets where"
            world.rows(f"{swap} endpoint_id = %s) where endpoint_id = %s", other, one)
            none, _ = await endpoint(store, world, there.url)
            world.rows("delete from webhook_secrets where endpoint_id = %s", none)
            for webhook in (one, other, none):
                due(world, webhook)
            assert await deliver(store) == 3
        assert log(world, none)[0]["last_error"] == "The endpoint has no secret. Rotate it to give it one."
        (moved,) = log(world, one)
        assert (moved["status"], moved["last_status_code"]) == ("pending", None)
        assert "cannot be opened" in moved["last_error"]
        assert len(there.messages) == 1


async def test_secrets_are_sealed_anew_for_another_master_secret(
    world: World, store: WebhookStore, stack: Stack
) -> None:
    with by_hand(world):
        async with receiver() as there, http_client() as http:
            webhook, secret = await endpoint(store, world, there.url)
            old = load_secrets(stack.data_dir).api_key_encryption_secret
            db = Database(stack.url, api_key=stack.secret_key, bearer=stack.secret_key, http=http)
            rotated = WebhookStore(db, KeySealer(SecretStr("another-master-secret-" + uuid4().hex), old))
            before = world.rows("select count(*) from webhook_secrets")[0][0]
            assert await rotated.reseal(10_000) == (before, 0)
            due(world, webhook)
            assert await deliver(rotated) == 1
            Webhook(secret.get_secret_value()).verify(there.messages[0].raw, there.messages[0].headers)
            world.rows("delete from webhook_endpoints")  # nobody else knows that master secret


async def test_old_ones_are_forgotten(world: World, store: WebhookStore) -> None:
    with by_hand(world):
        webhook, _ = await endpoint(store, world, "http://a.test/")
        due(world, webhook, 3)
        for days, state in ((31, "delivered"), (29, "dead"), (31, "pending")):
            world.rows(
                "update webhook_deliveries set created_at = now() - make_interval(days => %s), status = %s"
                " where id = (select id from webhook_deliveries where endpoint_id = %s"
                " and created_at > now() - interval '1 day' limit 1)",
                days,
                state,
                webhook,
            )
        world.rows(
            "insert into private.webhook_inbox values ('openai', %s, 'old', now() - interval '8 days')"
            ", ('openai', %s, 'new', now() - interval '6 days')",
            world.user,
            world.user,
        )
        answer = await world.call_as_service("deliver-webhooks", {})
        assert answer.status_code == 200
        assert sorted(row["status"] for row in log(world, webhook)) == ["dead", "pending"]
        left = world.rows("select webhook_id from private.webhook_inbox where user_id = %s", world.user)
        assert left == [("new",)]
        assert (await world.call("deliver-webhooks", {})).status_code == 401
