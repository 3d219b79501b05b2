"""Keys are checked with their provider first, go in, and never come out."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from devstack.secrets_file import load_secrets
from devstack.up import Stack
from shared.errors import ProviderKeyInvalid, ProviderUnavailable
from shared.keys.crypto import KeySealer
from shared.keys.store import OpenedKey
from shared.providers.base import KeyFacts
from shared.providers.huggingface import HuggingFaceProvider
from tests.fakes.gemini import FakeGemini
from tests.fakes.http import Fault, busy
from tests.fakes.huggingface import FakeHuggingFace
from tests.fakes.openai_compatible import FakeChatService
from tests.functions.world import World, make_world, own_functions, sign_up, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

KEY = "hf_canaryABCDEFGHIJ0123456789"
REFUSED = "hf_canaryREFUSED0123456789abc"


@dataclass
class Hub(ScriptedProvider):
    """A training provider that takes one key."""

    name: str = "huggingface"
    key: Any = "huggingface"
    taken: set[str] = field(default_factory=lambda: {KEY})
    is_away: bool = False

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        if self.is_away:
            raise ProviderUnavailable(f"no answer to {key.api_key.get_secret_value()}")
        if key.api_key.get_secret_value() not in self.taken:
            raise ProviderKeyInvalid("Invalid user token.")
        return KeyFacts("ada", ("job.write", "repo.read"))


@pytest.fixture
def gemini() -> Iterator[FakeGemini]:
    with FakeGemini() as fake:
        yield fake


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture  # a user for each test: ten calls a minute are all that one has
async def world(stack: Stack, gemini: FakeGemini, hub: Hub) -> AsyncIterator[World]:
    async with (
        make_world(stack) as made,
        own_functions(made, available={hub.name: hub}, gemini_base_url=gemini.url) as here,
    ):
        yield here


async def manage(world: World, action: str, provider: str | None = None, **more: Any) -> httpx.Response:
    body = {"action": action} | ({"provider": provider} if provider else {}) | more
    return await world.call("manage-api-keys", body)


def entry(answer: httpx.Response, provider: str) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = next(key for key in answer.json()["keys"] if key["provider"] == provider)
    return found


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_set_status_delete(world: World) -> None:
    openai = {"apiKey": "sk-canary-0123456789", "validate": False}
    status = await manage(world, "set", "openai", **openai)
    assert (status.json()["openaiKeySet"], status.json()["anthropicKeySet"]) == (True, False)
    shown = entry(status, "openai")
    assert (shown["set"], shown["lastFour"], shown["validatedAt"]) == (True, "6789", None)
    other = await world.call("manage-api-keys", {"action": "status"}, token=world.stranger_token)
    assert other.json()["openaiKeySet"] is False
    assert (await manage(world, "delete", "openai")).json()["openaiKeySet"] is False
    assert code(await manage(world, "delete", "openai")) == (404, "api_key_not_found")


async def test_a_key_is_checked_before_it_is_stored(world: World, hub: Hub) -> None:
    assert code(await manage(world, "set", "huggingface", apiKey=REFUSED)) == (422, "api_key_invalid")
    hub.is_away = True
    assert code(await manage(world, "set", "huggingface", apiKey=KEY)) == (503, "provider_unavailable")
    assert not entry(await manage(world, "status"), "huggingface")["set"]

    hub.is_away = False
    shown = entry(await manage(world, "set", "huggingface", apiKey=KEY), "huggingface")
    assert (shown["account"], shown["permissions"]) == ("ada", ["job.write", "repo.read"])
    assert shown["validatedAt"]
    assert code(await manage(world, "set", "huggingface", apiKey=REFUSED)) == (422, "api_key_invalid")
    assert entry(await manage(world, "status"), "huggingface")["lastFour"] == KEY[-4:], "the old one stays"


async def test_hugging_face_says_whose_token_it_is_and_what_it_may_do(world: World) -> None:
    with FakeHuggingFace() as hub:
        provider = HuggingFaceProvider(image="fineflow/trainer", endpoint=hub.url)
        async with own_functions(world, available={provider.name: provider}) as here:
            refused = await manage(here, "set", "huggingface", apiKey=REFUSED)
            assert code(refused) == (422, "api_key_invalid"), refused.text
            await manage(here, "set", "huggingface", apiKey=hub.api_key, validate=False)
            shown = entry(await manage(here, "validate", "huggingface"), "huggingface")
    assert shown["account"] == "acme"
    assert "job.write" in shown["permissions"]


async def test_a_stored_key_is_checked_again(world: World, hub: Hub) -> None:
    assert code(await manage(world, "validate", "huggingface")) == (404, "api_key_not_found")
    assert code(await manage(world, "validate")) == (422, "invalid_request")
    await manage(world, "set", "huggingface", apiKey=KEY, validate=False)
    shown = entry(await manage(world, "validate", "huggingface"), "huggingface")
    assert (shown["account"], bool(shown["validatedAt"])) == ("ada", True)

    hub.taken.clear()
    shown = entry(await manage(world, "validate", "huggingface"), "huggingface")
    assert shown["invalidAt"]
    assert shown["invalidReason"] == "Invalid user token."
    assert entry(await manage(world, "status"), "huggingface")["invalidAt"]
    hub.is_away = True
    assert code(await manage(world, "validate", "huggingface")) == (503, "provider_unavailable")

    hub.is_away, hub.taken = False, {KEY}
    assert entry(await manage(world, "validate", "huggingface"), "huggingface")["invalidAt"] is None


async def test_an_invalid_key_starts_no_job_and_a_new_one_ends_the_wait(world: World, hub: Hub) -> None:
    hub.start_error = ProviderUnavailable("nobody there")
    with undisturbed(world):
        await manage(world, "set", "huggingface", apiKey=KEY)
        start = {"datasetId": world.dataset, "provider": "huggingface"}
        started = await world.call("start-training", start)
        assert started.status_code == 202, started.text
        job = started.json()["jobId"]
        hub.taken.clear()
        await manage(world, "validate", "huggingface")
        other = {"datasetId": await world.new_dataset(pairs=12), "provider": "huggingface"}
        assert code(await world.call("start-training", other)) == (422, "api_key_invalid")

        later = "update private.training_job_control set next_poll_at = now() + interval '1 hour'"
        due = "select next_poll_at <= now() from private.training_job_control where job_id = %s"
        world.rows(f"{later} where job_id = %s", job)
        gone = await manage(world, "delete", "huggingface")
        assert gone.json()["waitingJobs"] == [job]
        assert world.rows(due, job) == [(False,)]
        hub.taken = {KEY}
        assert (await manage(world, "set", "huggingface", apiKey=KEY)).json()["waitingJobs"] == []
        assert world.rows(due, job) == [(True,)]
        world.rows("update public.training_jobs set status = 'cancelled' where id = %s", job)


async def test_gemini_is_asked_for_its_models(world: World, gemini: FakeGemini) -> None:
    assert code(await manage(world, "set", "gemini", apiKey="AIzaWrong-0123456789")) == (
        422,
        "api_key_invalid",
    )
    gemini.disturb("models", Fault(status=500))
    assert code(await manage(world, "set", "gemini", apiKey=gemini.api_key)) == (503, "provider_unavailable")
    gemini.disturb("models", busy(7))
    assert code(await manage(world, "set", "gemini", apiKey=gemini.api_key)) == (503, "provider_busy")
    assert entry(await manage(world, "set", "gemini", apiKey=gemini.api_key), "gemini")["validatedAt"]
    base_url = {"apiKey": gemini.api_key, "baseUrl": gemini.url}
    assert code(await manage(world, "set", "gemini", **base_url)) == (422, "invalid_request")


async def test_a_compatible_service_is_asked_at_its_address(world: World) -> None:
    with FakeChatService() as service:
        answer = await manage(
            world, "set", "openai_compatible", apiKey=service.api_key, baseUrl=service.base_url
        )
        shown = entry(answer, "openai_compatible")
        assert (shown["baseUrl"], bool(shown["validatedAt"])) == (service.base_url, True)
        wrong = await manage(
            world, "set", "openai_compatible", apiKey=service.api_key, baseUrl=f"{service.url}/v2"
        )
        assert code(wrong) == (422, "not_a_model_service")


async def test_what_cannot_be_checked_says_so(world: World) -> None:
    asked = await manage(world, "set", "together", apiKey="0123456789abcdef")
    assert code(asked) == (422, "key_check_not_available")
    assert code(await manage(world, "set", "modal", apiKey="ak-0123456789")) == (422, "invalid_request")


async def test_a_webhook_secret_is_sealed_beside_the_key(world: World) -> None:
    secret = "whsec_Y2FuYXJ5LXdlYmhvb2stc2VjcmV0"
    assert code(await manage(world, "set", "openai", webhookSecret=secret)) == (404, "api_key_not_found")
    await manage(world, "set", "openai", apiKey="sk-canary-0123456789", validate=False)
    assert entry(await manage(world, "set", "openai", webhookSecret=secret), "openai")["webhookSecretSet"]
    both = await manage(world, "set", "openai", apiKey="sk-canary-987654321", validate=False)
    assert entry(both, "openai")["webhookSecretSet"], "a new key leaves it as it is"
    assert secret not in str(world.rows("select to_jsonb(k) from user_api_keys k"))


async def test_the_service_alone_rotates(world: World, stack: Stack) -> None:
    await manage(world, "set", "openai", apiKey="sk-canary-0123456789", validate=False)
    assert code(await manage(world, "rotate")) == (403, "forbidden")
    old = load_secrets(stack.data_dir).api_key_encryption_secret
    new = SecretStr("a new master secret of more than 32 characters")
    async with own_functions(
        world, api_key_encryption_secret=new, api_key_encryption_secrets_old=(old,)
    ) as rotating:
        answer = await rotating.call_as_service("manage-api-keys", {"action": "rotate"})
    assert answer.json()["rotation"]["rotated"] >= 1, answer.text
    mine = "select key_id from user_api_keys where user_id = %s"
    assert world.rows(mine, world.user) == [(KeySealer(new).key_id,)]
    # And back, for the tests that follow on this stack.
    async with own_functions(world, api_key_encryption_secrets_old=(new,)) as rotating:
        await rotating.call_as_service("manage-api-keys", {"action": "rotate"})
    assert world.rows(mine, world.user) == [(KeySealer(old).key_id,)]


async def test_a_ciphertext_moved_to_another_user_does_not_open(world: World, gemini: FakeGemini) -> None:
    await manage(world, "set", "gemini", apiKey=gemini.api_key)
    async with httpx.AsyncClient(base_url=world.stack.url) as http:
        thief, thief_token = await sign_up(http, world.stack)
    world.rows(
        "insert into user_api_keys (user_id, provider, ciphertext, key_id, last_four)"
        " select %s, provider, ciphertext, key_id, last_four from user_api_keys"
        " where user_id = %s and provider = 'gemini'",
        thief,
        world.user,
    )
    (project,) = world.rows("insert into projects (owner_id, name) values (%s, 'theirs') returning id", thief)
    body = {"projectId": str(project[0]), "datasetName": "x", "generator": "gemini"}
    assert code(await world.call("generate-dataset", body, token=thief_token)) == (409, "api_key_unreadable")


async def test_ten_calls_a_minute_whatever_they_ask(world: World) -> None:
    await manage(world, "set", "huggingface", apiKey=KEY)
    actions = ["validate", "status", "set"] * 3
    more = {"set": {"apiKey": KEY}, "validate": {}, "status": {}}
    statuses = [
        (await manage(world, action, "huggingface", **more[action])).status_code for action in actions
    ]
    assert statuses == [200] * 9
    last = await manage(world, "status")
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) >= 1
    assert last.json()["error"]["details"]["retryAfterSeconds"] >= 1
