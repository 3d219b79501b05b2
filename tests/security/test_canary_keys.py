"""Keys go every way that a key can go, past vendors that quote them, and are looked for everywhere after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devstack.up import Stack
from tests.conftest import Figure
from tests.fakes.gemini import FakeGemini
from tests.fakes.google_errors import error_body
from tests.fakes.http import Fault
from tests.fakes.openai import FakeOpenAI
from tests.fakes.openai_compatible import FakeChatService
from tests.fakes.together import FakeTogether
from tests.functions.documents import HANDBOOK, until, upload
from tests.functions.world import World, make_world, sign_up, undisturbed
from tests.security.canaries import (
    Searched,
    of_a_known_shape,
    of_no_shape,
    quoting,
    realtime,
    with_odd_characters,
)
from tests.security.leaky import leaky_functions

pytestmark = pytest.mark.timeout(180)
MODEL = "gpt-4.1-mini-2025-04-14"


@pytest.fixture
def searched() -> Searched:
    return Searched()


@pytest.fixture
async def world(stack: Stack, searched: Searched) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        made.http.event_hooks = {"response": [searched.keep]}
        yield made


@pytest.fixture
def job_keys(searched: Searched) -> tuple[str, str]:
    """Those that OpenAI takes."""
    return searched.key(of_no_shape()), searched.key(with_odd_characters())


@pytest.fixture
def openai(job_keys: tuple[str, str]) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(keys=job_keys) as fake:
        yield fake


def quotes(status: int, key: str) -> Fault:
    """A refusal that quotes the key in every field."""
    return Fault(status=status, body={"error": {"message": quoting(key), "code": key, "type": key}})


async def manage(world: World, **body: Any) -> httpx.Response:
    return await world.call("manage-api-keys", body)


async def somebody(world: World) -> str:
    """The token of a new user, who has ten calls a minute of their own."""
    _, token = await sign_up(world.http, world.stack)
    return token


async def through_keys_that_are_set(world: World, searched: Searched, openai: FakeOpenAI) -> None:
    with FakeTogether() as together:
        places = (("openai", openai, openai.base_url), ("together", together, f"{together.url}/v1"))
        for make in (of_a_known_shape, of_no_shape, with_odd_characters):
            token = await somebody(world)
            for provider, fake, base_url in places:
                key = searched.key(make())
                body = {"action": "set", "provider": provider, "apiKey": key, "baseUrl": base_url}
                for status in (401, 400, 500):
                    fake.disturb("check", *[quotes(status, key)] * (3 if status == 500 else 1))
                    refused = await world.call("manage-api-keys", body, token=token)
                    assert refused.status_code in (422, 503), refused.text
                kept = await world.call("manage-api-keys", body | {"validate": False}, token=token)
                assert kept.status_code == 200, kept.text


async def through_requests_that_are_wrong(world: World, searched: Searched) -> None:
    key, other = searched.key(of_a_known_shape()), searched.key(of_no_shape())
    secret = {"action": "set", "provider": "openai", "apiKey": other}
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("manage-api-keys", secret | {"baseUrl": f"nowhere/{other}"}),
        ("manage-api-keys", secret | {"baseUrl": f"https://user:{other}@host.example/v1"}),
        ("manage-api-keys", secret | {"apiKey": [other]}),
        ("manage-api-keys", secret | {"provider": other}),
        ("manage-api-keys", {"action": other}),
        ("manage-api-keys", {"action": "status", key: 1}),
        ("start-training", {"datasetId": other, "apiKey": key}),
        ("start-training", {"datasetId": world.dataset, "apiKey": [key], "provider": "openai"}),
        ("start-training", {"datasetId": world.dataset, "apiKey": key, "provider": "nobody"}),
        ("estimate-training", {"datasetId": world.dataset, "apiKey": key}),
        (f"provider-webhook?provider=openai&user={other}", {"key": key}),
    ]
    token = await somebody(world)
    for name, body in wrong:
        answer = await world.call(name, body, token=token if name == "manage-api-keys" else None)
        assert answer.status_code in (401, 422), (name, body, answer.text)
    headers = {"authorization": f"Bearer {world.token}", "content-type": "application/json"}
    for broken in (f'{{"apiKey": "{other}", ', f'"{other}"', f"[{other}]"):
        url = "/functions/v1/manage-api-keys"
        assert (await world.http.post(url, content=broken, headers=headers)).status_code == 422
    assert (await world.call("manage-api-keys", {"action": "status"}, token=other)).status_code == 401


async def through_a_generation(world: World, searched: Searched) -> None:
    key = searched.key(of_no_shape())
    await upload(world, "handbook.md", HANDBOOK)
    refuse = {"error": {"message": quoting(key), "code": key}}
    with FakeChatService(keys=(key,), reply=lambda _: (400, refuse)) as service:
        place = {"apiKey": key, "baseUrl": service.base_url}
        assert (await manage(world, action="set", provider="openai_compatible", **place)).status_code == 200
        body = {
            "projectId": world.project,
            "datasetName": "d",
            "generator": "openai_compatible",
            "model": "m",
        }
        answer = await world.call("generate-dataset", body)
        dataset = await until(
            world, "training_datasets", answer.json()["datasetId"], "status", {"ready", "failed"}
        )
    assert "[redacted]" in str(dataset["error"]), dataset


async def through_jobs(
    world: World, searched: Searched, openai: FakeOpenAI, job_keys: tuple[str, str], marker: str
) -> None:
    key, again = job_keys
    place = {"apiKey": key, "baseUrl": openai.base_url}
    webhook_secret = searched.key(f"whsec_{of_no_shape()}")
    stored = await manage(world, action="set", provider="openai", webhookSecret=webhook_secret, **place)
    assert stored.status_code == 200, stored.text
    start = {"provider": "openai", "baseModel": MODEL, "modelName": marker}

    openai.disturb("create", quotes(400, key))
    refused = await start_job(world, start)
    assert await status_of(world, refused) == "failed"

    # A key given with the call; then the vendor refuses it for a while, and the job waits.
    job = await start_job(world, start | {"apiKey": again})
    openai.disturb("poll", quotes(401, again))
    await world.call("poll-training", {"jobId": job})
    assert (await manage(world, action="status")).json()["keys"][0]["invalidReason"]
    await manage(world, action="validate", provider="openai")
    openai.disturb("check", quotes(401, again))
    await manage(world, action="validate", provider="openai")
    await manage(world, action="set", provider="openai", **place)

    # Its events and its end quote the key, too.
    (ref,) = world.rows("select provider_job_id from training_jobs where id = %s", job)[0]
    openai.vendor.tell(ref, quoting(key))
    openai.vendor.set_status(ref, "failed")
    openai.vendor.jobs[ref].body["error"] = {"code": key, "message": quoting(key), "param": None}
    openai.disturb("poll", quotes(500, key), quotes(500, key), quotes(500, key))
    for _ in range(2):
        await world.call("poll-training", {"jobId": job})
        world.rows("delete from private.provider_breakers where user_id = %s", world.user)
    assert await status_of(world, job) == "failed"

    job = await start_job(world, start)
    openai.disturb("cancel", quotes(400, key))
    await world.call("cancel-training", {"jobId": job})
    assert (await manage(world, action="delete", provider="openai")).status_code == 200
    headers = {"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.token}"}
    for table in ("training_jobs", "training_job_events", "user_api_keys?select=provider,invalid_reason"):
        assert (await world.http.get(f"/rest/v1/{table}", headers=headers)).status_code == 200
    world.rows("update training_jobs set status = 'cancelled' where id = %s and status <> 'cancelled'", job)


async def start_job(world: World, start: dict[str, Any]) -> str:
    dataset = await world.new_dataset(pairs=12)
    answer = await world.call("start-training", start | {"datasetId": dataset})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["jobId"])


async def status_of(world: World, job: str) -> str:
    return str(world.rows("select status from training_jobs where id = %s", job)[0][0])


async def through_errors_that_nobody_foresaw(world: World, searched: Searched) -> None:
    """By functions that know a provider which breaks down, and Gemini."""
    with FakeGemini() as google:
        async with leaky_functions(world.stack, google.url) as url:
            token = await somebody(world)
            for key, status in (
                (of_a_known_shape(), 500),
                (of_no_shape(), 422),
                (with_odd_characters(), 422),
            ):
                searched.key(key)
                body = {"action": "set", "provider": "anthropic", "apiKey": key}
                assert await asked(world, url, body, token) == status
                google.disturb("models", Fault(status=503, body=error_body(503, quoting(key))))
                assert await asked(world, url, body | {"provider": "gemini"}, token) == 503
                assert await asked(world, url, body | {"provider": "gemini"}, token) == 422


async def asked(world: World, url: str, body: dict[str, Any], token: str) -> int:
    # uvicorn closes the connection behind an error that nobody caught.
    headers = {"authorization": f"Bearer {token}", "connection": "close"}
    answer = await world.http.post(f"{url}/functions/v1/manage-api-keys", json=body, headers=headers)
    return answer.status_code


async def test_keys_appear_nowhere(
    world: World,
    searched: Searched,
    openai: FakeOpenAI,
    job_keys: tuple[str, str],
    figure: Figure,
) -> None:
    marker = f"marker {uuid4()}"
    with undisturbed(world):
        async with realtime(world, searched.frames, "training_jobs", "training_datasets", "documents"):
            await through_keys_that_are_set(world, searched, openai)
            await through_requests_that_are_wrong(world, searched)
            await through_a_generation(world, searched)
            await through_jobs(world, searched, openai, job_keys, marker)
            await through_errors_that_nobody_foresaw(world, searched)
    # What is no secret is found, so the places are looked at.
    assert searched.mentions(world, marker) >= {"rows", "frames", "bodies"}
    assert searched.mentions(world, "The foghorn is tested") >= {"files", "rows"}
    assert searched.mentions(world, "RuntimeError") == {"logs"}
    hits = searched.hits(world)
    figure(f"{searched}: {len(hits)} hits")
    assert not hits, "\n".join(hits)
