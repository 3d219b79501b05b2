"""Endpoints are set by editors; a secret comes out once and stands nowhere."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from devstack.up import Stack
from shared.webhooks.model import EVENT_TYPES
from tests.functions.world import World, make_world, own_functions
from tests.shared.webhooks.receiver import receiver, status

URL = "https://hooks.example/fineflow"


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def manage(world: World, action: str, *, token: str | None = None, **body: Any) -> httpx.Response:
    return await world.call("manage-webhooks", {"action": action} | body, token=token)


async def create(world: World, **body: Any) -> tuple[str, str]:
    """The id and the secret of a new endpoint."""
    answer = await manage(world, "create", **({"projectId": world.project, "url": URL} | body))
    assert answer.status_code == 200, answer.text
    return answer.json()["webhooks"][0]["id"], answer.json()["secret"]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_create_list_update_delete(world: World) -> None:
    webhook, secret = await create(world, description="the pipeline")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    listed = (await manage(world, "list", projectId=world.project, token=world.viewer_token)).json()
    assert listed["secret"] is None
    (only,) = listed["webhooks"]
    assert (only["id"], only["url"], only["description"]) == (webhook, URL, "the pipeline")
    assert (only["enabled"], only["disabledReason"], only["failingSince"]) == (True, None, None)
    assert only["events"] == list(EVENT_TYPES)
    changed = await manage(
        world, "update", webhookId=webhook, events=["finetune_job_failed"], enabled=False, url=URL + "/b"
    )
    (only,) = changed.json()["webhooks"]
    assert (only["events"], only["enabled"], only["url"]) == (["finetune_job_failed"], False, URL + "/b")
    assert (await manage(world, "delete", webhookId=webhook)).json()["webhooks"] == []
    assert (await manage(world, "list", projectId=world.project)).json()["webhooks"] == []
    assert code(await manage(world, "delete", webhookId=webhook)) == (404, "webhook_not_found")


async def test_only_editors_change_and_strangers_see_nothing(world: World) -> None:
    webhook, _ = await create(world)
    delivery = world.rows(
        "insert into webhook_deliveries (endpoint_id, project_id, event_id, type, payload, status)"
        " values (%s, %s, gen_random_uuid(), 'ping', '{}', 'dead') returning id::text",
        webhook,
        world.project,
    )[0][0]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("create", {"projectId": world.project, "url": URL}),
        *((action, {"webhookId": webhook}) for action in ("rotate", "delete", "test")),
        ("update", {"webhookId": webhook, "enabled": False}),
        ("redeliver", {"deliveryId": delivery}),
    ]
    for action, body in calls:
        assert code(await manage(world, action, **body, token=world.viewer_token)) == (403, "forbidden")
        answer = await manage(world, action, **body, token=world.stranger_token)
        assert answer.status_code == 404, action
    answer = await manage(world, "list", projectId=world.project, token=world.stranger_token)
    assert code(answer) == (404, "project_not_found")
    assert world.rows("select count(*) from webhook_secrets where endpoint_id = %s", webhook) == [(1,)]


async def test_what_is_not_whole_or_not_allowed(world: World) -> None:
    async with own_functions(world, allow_private_addresses=False) as here:
        assert here.stack.url.startswith("http://127.0.0.1")  # somebody's own machine: private is allowed
        for url in ("https://u:p@hooks.example/", "ftp://hooks.example/x", "https:///path"):
            answer = await manage(here, "create", projectId=world.project, url=url)
            assert code(answer) == (422, "webhook_url_refused"), url
    for action, body in (
        ("create", {"projectId": world.project}),
        ("create", {"url": URL}),
        ("create", {"projectId": world.project, "url": URL, "events": []}),
        ("create", {"projectId": world.project, "url": URL, "events": ["job_exploded"]}),
        ("update", {}),
        ("redeliver", {}),
        ("rotate", {"projectId": world.project}),
        ("list", {"projectId": world.project, "url": URL}),
        ("create", {"projectId": world.project, "url": URL, "enabled": False}),
    ):
        assert code(await manage(world, action, **body)) == (422, "invalid_request"), (action, body)


async def test_at_most_twenty(world: World) -> None:
    for _ in range(20):
        await create(world)
    answer = await manage(world, "create", projectId=world.project, url=URL)
    assert code(answer) == (409, "too_many_webhooks")


async def test_a_ping_is_signed_by_both_secrets_after_a_rotation(world: World) -> None:
    async with receiver() as there:
        webhook, old = await create(world, url=there.url)
        rotated = (await manage(world, "rotate", webhookId=webhook)).json()
        new = rotated["secret"]
        assert new != old
        answer = (await manage(world, "test", webhookId=webhook)).json()
        assert answer["result"] == {"delivered": True, "statusCode": 204, "error": None}
        (ping,) = there.messages
        for secret in (old, new):
            said = Webhook(secret).verify(ping.raw, ping.headers)
            assert said["type"] == "ping"
            assert said["data"] == {"endpointId": webhook, "projectId": world.project}
        left = (
            "select extract(epoch from expires_at - now())::int from webhook_secrets where endpoint_id = %s"
        )
        seconds = [row[0] for row in world.rows(left, webhook) if row[0] is not None]
        assert len(seconds) == 1
        assert 86_300 < seconds[0] <= 86_400
        world.rows("update webhook_secrets set expires_at = now() where expires_at is not null")
        await manage(world, "test", webhookId=webhook)
        assert len(there.messages[1].headers["webhook-signature"].split()) == 1
        Webhook(new).verify(there.messages[1].raw, there.messages[1].headers)
    log = world.rows(
        "select status, attempts, last_status_code, job_id from webhook_deliveries where endpoint_id = %s",
        webhook,
    )
    assert log == [("delivered", 1, 204, None)] * 2


async def test_a_ping_that_fails_says_why_and_is_not_repeated(world: World) -> None:
    async with receiver(status(500)) as there:
        webhook, _ = await create(world, url=there.url)
        answer = (await manage(world, "test", webhookId=webhook)).json()
        assert answer["result"] == {"delivered": False, "statusCode": 500, "error": "500:"}
        ((delivery, state, error),) = world.rows(
            "select id, status, last_error from webhook_deliveries where endpoint_id = %s", webhook
        )
        assert (state, error) == ("dead", "500:")
        assert code(await manage(world, "redeliver", deliveryId=webhook)) == (
            404,
            "webhook_delivery_not_found",
        )
        there.answer = status(200)
        assert (await manage(world, "redeliver", deliveryId=str(delivery))).status_code == 200
        await there.wait_for("ping")
    assert code(await manage(world, "update", webhookId=webhook)) == (422, "invalid_request")


async def test_a_secret_stands_nowhere(world: World) -> None:
    async with receiver(status(500)) as there:
        webhook, old = await create(world, url=there.url)
        new = (await manage(world, "rotate", webhookId=webhook)).json()["secret"]
        answers = [
            (await manage(world, "test", webhookId=webhook)).text,
            (await manage(world, "list", projectId=world.project)).text,
            (await manage(world, "update", webhookId=webhook, description="x")).text,
            (await manage(world, "update", webhookId=webhook, description=new, secret=new)).text,
        ]
        headers = {"authorization": f"Bearer {world.token}", "apikey": world.stack.publishable_key}
        for columns in ("*", "ciphertext", "id,endpoint_id,last_four,expires_at"):
            shown = await world.http.get(f"/rest/v1/webhook_secrets?select={columns}", headers=headers)
            assert shown.is_error == ("id" not in columns.split(",")), shown.text
            answers.append(shown.text)
        assert [message.raw for message in there.messages if new.encode() in message.raw] == []
    tables = world.rows(
        "select format('%%I.%%I', schemaname, tablename) from pg_tables"
        " where schemaname in ('public', 'private')"
    )
    stored = [str(world.rows(f"select t::text from {table} t")) for (table,) in tables]
    logs = [path.read_text(errors="replace") for path in (world.stack.data_dir / "logs").iterdir()]
    for secret in (old, new):
        plain = secret.removeprefix("whsec_")
        for place in answers + stored + logs:
            assert plain not in place
            assert base64.b64decode(plain).hex() not in place
