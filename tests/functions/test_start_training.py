"""start-training with a provider that needs a key, whose optional `apiKey` goes the way of manage-api-keys;
and with an engine that cannot do it."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from devstack.up import Stack
from shared.errors import ProviderUnavailable
from tests.functions.world import World, make_world, own_functions, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

KEY = "sk-canary-start-training-0001"


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """The stack's own database, behind functions that know a provider with a key."""
    available = {
        "needs-key": ScriptedProvider(
            name="needs-key", key="openai", start_error=ProviderUnavailable("nobody there")
        ),
        "local": ScriptedProvider(name="local"),
    }
    async with make_world(stack) as made:
        with undisturbed(made):
            async with own_functions(made, available=available) as here:
                yield here
            # The stack does not know this provider.
            made.rows(
                "update public.training_jobs set status = 'cancelled'"
                " where provider = 'needs-key' and status <> 'cancelled'"
            )


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


async def test_gpus_that_are_not_there_are_refused_before_anything_is_paid(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    for count, reason in ((3, "cannot share a batch of 4 rows evenly"), (4, "no GPU with CUDA")):
        for function in ("estimate-training", "start-training"):
            asked = {"datasetId": dataset, "provider": "local", "gpuCount": count}
            answer = await world.call(function, asked)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (422, "gpu_count_not_possible"), answer.text
            assert reason in error["message"]
    assert world.rows("select count(*) from training_jobs where dataset_id = %s", dataset) == [(0,)]


async def test_an_engine_that_is_not_there_is_refused_before_anything_is_paid(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    asked = {"datasetId": dataset, "provider": "needs-key", "trainingConfig": {"engine": "unsloth"}}
    for function in ("estimate-training", "start-training"):
        answer = await world.call(function, asked)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "engine_not_available"), answer.text
        assert "Take provider 'modal'" in error["message"]
        assert error["details"] == {"engine": "unsloth", "provider": "needs-key"}
    assert world.rows("select count(*) from training_jobs where dataset_id = %s", dataset) == [(0,)]
