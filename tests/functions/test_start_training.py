"""start-training with a provider that needs a key: the optional `apiKey` goes the way of manage-api-keys."""

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from devstack.secrets_file import load_secrets
from devstack.up import Stack
from functions.context import Services
from functions.entry import create_app
from shared.config import Settings
from shared.errors import ProviderUnavailable
from tests.functions.world import World, make_world, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

KEY = "sk-canary-start-training-0001"


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """The stack's own database, behind functions that know a provider with a key."""
    secrets = load_secrets(stack.data_dir)
    settings = Settings(
        supabase_url=stack.url,
        supabase_publishable_key=stack.publishable_key,
        supabase_secret_key=SecretStr(stack.secret_key),
        supabase_jwt_secret=SecretStr(stack.jwt_secret),
        api_key_encryption_secret=secrets.api_key_encryption_secret,
        function_secret=secrets.function_secret,
        data_dir=stack.data_dir,
    )
    available = {
        "needs-key": ScriptedProvider(
            name="needs-key", key="openai", start_error=ProviderUnavailable("nobody there")
        )
    }
    app = create_app(settings, available=available)
    app.state.services = services = Services.connect(settings, available=available)
    async with make_world(stack) as made:
        with undisturbed(made):
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://functions"
            ) as http:
                made.http = http
                yield made
            # The stack does not know this provider.
            made.rows("update public.training_jobs set status = 'cancelled' where provider = 'needs-key'")
    await services.http.aclose()


async def test_without_a_key_nothing_starts(world: World) -> None:
    answer = await world.call("start-training", {"datasetId": world.dataset, "provider": "needs-key"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "api_key_missing")
    assert world.rows("select count(*) from training_jobs where dataset_id = %s", world.dataset) == [(0,)]


async def test_a_key_given_with_the_call_is_sealed_and_kept(world: World) -> None:
    body = {"datasetId": world.dataset, "provider": "needs-key", "apiKey": KEY}
    answer = await world.call("start-training", body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "uploading"
    assert KEY not in answer.text
    (row,) = world.rows(
        "select last_four, ciphertext, user_id from user_api_keys where user_id = %s", world.user
    )
    assert (row[0], row[2]) == (KEY[-4:], UUID(world.user))
    assert KEY not in row[1]
    job = str(world.rows("select to_jsonb(j) from training_jobs j where dataset_id = %s", world.dataset))
    assert KEY not in job
