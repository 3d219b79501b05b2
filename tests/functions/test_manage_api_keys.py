"""Keys go in and never come out."""

import base64
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest

from devstack.up import Stack
from tests.functions.world import World, make_world, sign_up

CANARY = "sk-canary-5f2d8c1b7e6a4930/+"


@pytest.fixture  # a user for each test: ten calls a minute are all that one has
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def test_set_status_delete(world: World) -> None:
    answer = await world.call("manage-api-keys", {"action": "set", "provider": "openai", "apiKey": CANARY})
    assert answer.status_code == 200, answer.text
    status = (await world.call("manage-api-keys", {"action": "status"})).json()
    assert (status["openaiKeySet"], status["anthropicKeySet"]) == (True, False)
    openai = next(entry for entry in status["keys"] if entry["provider"] == "openai")
    assert (openai["set"], openai["lastFour"]) == (True, CANARY[-4:])
    other = await world.call("manage-api-keys", {"action": "status"}, token=world.stranger_token)
    assert other.json()["openaiKeySet"] is False
    gone = await world.call("manage-api-keys", {"action": "delete", "provider": "openai"})
    assert gone.json()["openaiKeySet"] is False
    again = await world.call("manage-api-keys", {"action": "delete", "provider": "openai"})
    assert (again.status_code, again.json()["error"]["code"]) == (404, "api_key_not_found")


async def test_a_key_appears_nowhere(world: World) -> None:
    answers = [
        await world.call("manage-api-keys", body)
        for body in (
            {"action": "set", "provider": "gemini", "apiKey": CANARY},
            {"action": "set", "provider": "gemini", "apiKey": CANARY, "baseUrl": "not an address"},
            {"action": "set", "provider": "nobody", "apiKey": CANARY},
            {"action": "status", "apiKey": CANARY, "provider": "gemini"},
            {"action": "set", "provider": "gemini", "apiKey": [CANARY]},
            {"action": "set", "provider": "gemini", "key": CANARY},
            {"action": "status"},
        )
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 422, 422, 422, 422, 200]
    forms = {CANARY, quote(CANARY, safe=""), base64.b64encode(CANARY.encode()).decode()}
    tables = world.rows(
        "select format('%%I.%%I', schemaname, tablename) from pg_tables where schemaname = 'public'"
    )
    stored = [str(world.rows(f"select t::text from {table} t")) for (table,) in tables]
    logs = [path.read_text(errors="replace") for path in (world.stack.data_dir / "logs").iterdir()]
    for place in [answer.text for answer in answers] + stored + logs:
        assert not any(form in place for form in forms)


async def test_a_ciphertext_moved_to_another_user_does_not_open(world: World) -> None:
    await world.call("manage-api-keys", {"action": "set", "provider": "gemini", "apiKey": CANARY})
    thief, thief_token = await sign_up(world.http, world.stack)
    world.rows(
        "insert into user_api_keys (user_id, provider, ciphertext, key_id, last_four)"
        " select %s, provider, ciphertext, key_id, last_four from user_api_keys"
        " where user_id = %s and provider = 'gemini'",
        thief,
        world.user,
    )
    project = world.rows("insert into projects (owner_id, name) values (%s, 'theirs') returning id", thief)[
        0
    ][0]
    body = {"projectId": str(project), "datasetName": "x", "generator": "gemini"}
    answer = await world.call("generate-dataset", body, token=thief_token)
    assert answer.status_code >= 400
    assert CANARY not in answer.text


async def test_ten_changes_a_minute(world: World) -> None:
    _, token = await sign_up(world.http, world.stack)
    statuses = [
        (await world.call("manage-api-keys", {"action": "status"}, token=token)).status_code
        for _ in range(11)
    ]
    assert statuses == [200] * 10 + [429]
    last = await world.call("manage-api-keys", {"action": "status"}, token=token)
    assert int(last.headers["retry-after"]) >= 1
    assert last.json()["error"]["details"]["retryAfterSeconds"] >= 1
