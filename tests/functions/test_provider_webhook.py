"""What providers tell us: verified before it is read, at most a hint, and harmless however often it comes."""

import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from devstack.secrets_file import load_secrets
from devstack.up import Stack
from shared.db import Database, http_client
from shared.keys.crypto import KeySealer
from shared.keys.store import KeyStore
from shared.providers.base import ProviderReport
from shared.webhooks.sign import new_secret
from tests.conftest import Figure
from tests.functions.jobs import TO_TRAINING, move, new_job
from tests.functions.world import World, make_world, own_functions, sign_up, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

SECRET = new_secret()
REFUSED = {
    "error": {
        "code": "bad_signature",
        "message": "The signature is missing, wrong or too old.",
        "details": None,
    }
}


@pytest.fixture(scope="module")
def openai() -> ScriptedProvider:
    return ScriptedProvider(name="openai", key="openai", runs_our_trainer=False)


@pytest.fixture(scope="module")
async def world(stack: Stack, openai: ScriptedProvider) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        await set_secret(stack, made.user, SECRET)
        with undisturbed(made):
            async with own_functions(made, available={"openai": openai}) as here:
                yield here
            made.rows(
                "update training_jobs set status = 'cancelled'"
                " where provider = 'openai' and status not in ('completed', 'failed', 'cancelled')"
            )


async def set_secret(stack: Stack, user: str, secret: SecretStr) -> None:
    async with http_client() as http:
        db = Database(stack.url, api_key=stack.secret_key, bearer=stack.secret_key, http=http)
        keys = KeyStore(db, KeySealer(load_secrets(stack.data_dir).api_key_encryption_secret))
        await keys.set(UUID(user), "openai", SecretStr("sk-canary-provider-webhook"))
        await keys.set_webhook_secret(UUID(user), "openai", secret)


@dataclass(frozen=True)
class Sent:
    """One message as it travels."""

    body: bytes
    headers: dict[str, str]
    user: str

    def to(self) -> str:
        return f"/functions/v1/provider-webhook?provider=openai&user={self.user}"


def message(
    world: World,
    run: str,
    *,
    kind: str = "fine_tuning.job.succeeded",
    secret: SecretStr = SECRET,
    age_seconds: float = 0,
) -> Sent:
    """As OpenAI sends it, signed by a library that is neither OpenAI's nor ours."""
    webhook_id = f"wh_{uuid4().hex}"
    event = {"id": f"evt_{uuid4().hex}", "object": "event", "created_at": int(time.time()), "type": kind}
    body = json.dumps(event | {"data": {"id": run}})
    at = int(time.time() - age_seconds)
    naive = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)
    signature = Webhook(secret.get_secret_value()).sign(webhook_id, naive, body)
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(at), "webhook-signature": signature}
    return Sent(body.encode(), headers, world.user)


async def send(world: World, sent: Sent) -> httpx.Response:
    return await world.http.post(sent.to(), content=sent.body, headers=sent.headers)


def running(world: World, openai: ScriptedProvider, report: ProviderReport) -> tuple[str, str]:
    """A job in training and its run, of which the provider says this. Nobody looks for an hour."""
    run = f"ftjob-{uuid4().hex}"
    job = new_job(world, provider="openai", provider_job_id=run)
    move(world, job, *TO_TRAINING)
    openai.runs[run] = report
    sleep(world)
    return job, run


def sleep(world: World) -> None:
    world.rows("update private.training_job_control set next_poll_at = now() + interval '1 hour'")


def status_of(world: World, job: str) -> str:
    return str(world.rows("select status::text from training_jobs where id = %s", job)[0][0])


def everything(world: World) -> Any:
    return [
        world.rows(f"select t::text from {table} t order by 1")
        for table in ("training_jobs", "training_job_events", "fine_tuned_models", "private.webhook_inbox")
    ]


async def test_a_hint_is_followed_and_never_believed(world: World, openai: ScriptedProvider) -> None:
    job, run = running(world, openai, ProviderReport("training"))
    answer = await send(world, message(world, run))  # it says succeeded; the provider says training
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    assert status_of(world, job) == "training"
    openai.runs[run] = ProviderReport("completed")
    sleep(world)
    await send(world, message(world, run, kind="fine_tuning.job.failed"))
    assert status_of(world, job) == "completed"


async def test_what_concerns_nobody_is_received_and_has_no_effect(
    world: World, openai: ScriptedProvider
) -> None:
    job, run = running(world, openai, ProviderReport("completed"))
    before = world.rows("select t::text from training_jobs t order by 1")
    for sent in (
        message(world, "ftjob-unknown"),
        message(world, run, kind="batch.completed"),
        message(world, "' or true --"),
    ):
        assert (await send(world, sent)).status_code == 200
    assert world.rows("select t::text from training_jobs t order by 1") == before
    assert status_of(world, job) == "training"


async def test_the_run_of_somebody_else_is_not_touched(world: World, openai: ScriptedProvider) -> None:
    """Who signs with a secret of their own moves only jobs of their own."""
    job, run = running(world, openai, ProviderReport("completed"))
    thief, _ = await sign_up_at_the_stack(world)
    own = new_secret()
    await set_secret(world.stack, thief, own)
    forged = message(world, run, secret=own)
    assert (await send(world, Sent(forged.body, forged.headers, thief))).status_code == 200
    assert status_of(world, job) == "training"
    genuine = message(world, run)
    taken = {"webhook-id": genuine.headers["webhook-id"]}
    body = forged.body.decode()
    now = datetime.now(UTC).replace(tzinfo=None)
    taken["webhook-timestamp"] = str(int(now.replace(tzinfo=UTC).timestamp()))
    taken["webhook-signature"] = Webhook(own.get_secret_value()).sign(taken["webhook-id"], now, body)
    assert (await send(world, Sent(forged.body, taken, thief))).status_code == 200
    await send(world, genuine)  # its id is not used up by a stranger's
    assert status_of(world, job) == "completed"


async def sign_up_at_the_stack(world: World) -> tuple[str, str]:
    async with httpx.AsyncClient(base_url=world.stack.url, timeout=60) as http:
        return await sign_up(http, world.stack)


def forgeries(world: World, sent: Sent, rng: random.Random) -> list[Sent]:
    """What is not from the provider, or not from now, or not for this user."""

    def flipped(text: str) -> str:
        place = rng.randrange(len(text) - 4)
        return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]

    body, signature = bytearray(sent.body), sent.headers["webhook-signature"]
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    run = json.loads(sent.body)["data"]["id"]

    def with_headers(**changed: str) -> Sent:
        return Sent(sent.body, sent.headers | {k.replace("_", "-"): v for k, v in changed.items()}, sent.user)

    return [
        Sent(bytes(body), sent.headers, sent.user),
        Sent(sent.body + b" ", sent.headers, sent.user),
        Sent(b"", sent.headers, sent.user),
        Sent(b"\xff\xfe\x00", sent.headers, sent.user),
        with_headers(webhook_signature="v1," + flipped(signature[3:])),
        with_headers(webhook_signature=""),
        with_headers(webhook_signature="v1,"),
        with_headers(webhook_signature="v1"),
        with_headers(webhook_signature="v2," + signature[3:]),
        with_headers(webhook_signature="v1,%%%%"),
        with_headers(webhook_signature="v1a," + "A" * 5000),
        with_headers(webhook_id="other"),
        with_headers(webhook_timestamp=str(int(time.time()) + 1000)),
        with_headers(webhook_timestamp=str(int(time.time()) - 10)),
        with_headers(webhook_timestamp="nan"),
        with_headers(webhook_timestamp="1e400"),
        message(world, run, age_seconds=301),
        message(world, run, age_seconds=-420),  # some of it passes before it is sent
        message(world, run, secret=new_secret()),
        Sent(sent.body, sent.headers, str(uuid4())),
        Sent(sent.body, {}, sent.user),
    ]


async def test_what_is_forged_is_refused_and_nothing_else_is_said(
    world: World, openai: ScriptedProvider, figure: Figure
) -> None:
    _, run = running(world, openai, ProviderReport("completed"))
    genuine = message(world, run)
    forged = forgeries(world, genuine, random.Random(7))
    before = everything(world)
    for sent in forged:
        answer = await send(world, sent)
        assert (answer.status_code, answer.json()) == (401, REFUSED), sent
    assert everything(world) == before
    figure(f"{len(forged)} forgeries refused")


async def test_one_to_five_times_shuffled_and_forged(
    world: World, openai: ScriptedProvider, figure: Figure
) -> None:
    rng = random.Random(20261121)
    jobs, sent = {}, []
    for _ in range(10):
        end = rng.choice(("completed", "failed", "cancelled", "training"))
        job, run = running(world, openai, ProviderReport(end))  # type: ignore[arg-type]  # one of its words
        jobs[job] = end
        kind = rng.choice(("succeeded", "failed", "cancelled"))  # what it says is not what is so
        copies = [message(world, run, kind=f"fine_tuning.job.{kind}")] * rng.randint(1, 5)
        sent += [(200, copy) for copy in copies]
        sent += [(401, forgery) for forgery in rng.sample(forgeries(world, copies[0], rng), 3)]
    rng.shuffle(sent)
    world.rows("delete from private.rate_limits")
    answers: Counter[tuple[int, int]] = Counter()
    for expected, one in sent:
        answers[expected, (await send(world, one)).status_code] += 1
    wrong = {job: (status_of(world, job), end) for job, end in jobs.items() if status_of(world, job) != end}
    inbox = world.rows("select count(*) from private.webhook_inbox where user_id = %s", world.user)[0][0]
    genuine = sum(expected == 200 for expected, _ in sent)
    figure(
        f"{genuine} genuine deliveries of {len(jobs)} messages about as many jobs,"
        f" {len(sent) - genuine} forged: {answers[401, 401]} refused,"
        f" {answers[200, 200]} received, {len(wrong)} wrong states"
    )
    assert wrong == {}
    assert set(answers) == {(200, 200), (401, 401)}
    assert inbox >= len(jobs)
    ends = Counter(
        row[0]
        for row in world.rows("select job_id from fine_tuned_models where job_id = any(%s)", list(jobs))
    )
    assert set(ends.values()) <= {1}


async def test_a_flood_is_held_back_for_this_user_alone(world: World, openai: ScriptedProvider) -> None:
    _, run = running(world, openai, ProviderReport("training"))
    world.rows(
        "insert into private.rate_limits values (%s, now() + interval '2 minutes')"
        " on conflict (key) do update set next_free_at = excluded.next_free_at",
        f"provider-webhook:openai:{world.user}",
    )
    answer = await send(world, message(world, run))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limited")
    world.rows("delete from private.rate_limits")
    assert (await send(world, message(world, run))).status_code == 200
    unknown = Sent(b"{}", {}, str(uuid4()))
    assert (await send(world, unknown)).status_code == 401
    assert world.rows("select count(*) from private.rate_limits where key like %s", f"%{unknown.user}") == [
        (0,)
    ]


async def test_what_is_asked_wrongly(world: World) -> None:
    for query in ("", "?provider=openai", f"?provider=nobody&user={world.user}", "?provider=openai&user=x"):
        answer = await world.http.post(f"/functions/v1/provider-webhook{query}", content=b"{}")
        assert answer.status_code == 422
    sent = message(world, "ftjob-x")
    assert (await world.http.get(sent.to())).status_code == 405
    assert (await world.http.post(sent.to(), content=b"x" * 2_000_000)).status_code == 413


async def test_it_stands_open_at_the_front_door(world: World) -> None:
    """Without a key of the project: a provider has none."""
    sent = message(world, "ftjob-unknown")
    async with httpx.AsyncClient(base_url=world.stack.url) as http:
        assert (await http.post(sent.to(), content=sent.body, headers=sent.headers)).status_code == 200
        assert (await http.post(sent.to(), content=sent.body + b" ", headers=sent.headers)).status_code == 401
