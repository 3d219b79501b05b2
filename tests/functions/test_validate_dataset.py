"""validate-dataset on the running stack; each rule by itself is tested in tests/shared/datasets."""

from collections.abc import AsyncIterator

import pytest

from devstack.up import Stack
from tests.functions.world import World, make_world


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def test_a_good_dataset_is_valid_and_its_row_remembers(world: World) -> None:
    response = await world.call("validate-dataset", {"datasetId": world.dataset})
    assert response.status_code == 200
    result = response.json()
    assert result == {
        "valid": True,
        "errors": [],
        "warnings": [],
        "counts": {},
        "stats": {
            "totalPairs": 12,
            "avgTokensPerPair": 12.0,
            "avgQualityScore": 0.0,
            "uniqueQuestions": 12,
            "excludedPairs": 0,
        },
    }
    stored = world.rows("select validation from public.training_datasets where id = %s", world.dataset)
    assert stored == [(result,)]


async def test_findings_name_the_pair_its_place_and_what_to_do(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    world.rows(
        "update public.training_pairs set assistant_message = ' ' where dataset_id = %s and ordinal = 4",
        dataset,
    )
    world.rows(
        "update public.training_pairs p set user_message = first.user_message"
        " from public.training_pairs first where p.dataset_id = %s and p.ordinal = 7"
        " and first.dataset_id = p.dataset_id and first.ordinal = 0",
        dataset,
    )
    result = (await world.call("validate-dataset", {"datasetId": dataset})).json()
    assert result["valid"] is False
    (error,) = result["errors"]
    (warning,) = result["warnings"]
    pair_id = world.rows(
        "select id from public.training_pairs where dataset_id = %s and ordinal = 4", dataset
    )[0][0]
    assert (error["rule"], error["pairId"], error["ordinal"]) == ("empty_message", str(pair_id), 5)
    assert (warning["rule"], warning["ordinal"]) == ("duplicate_question", 8)
    assert error["hint"]


async def test_too_few_pairs(world: World) -> None:
    result = (await world.call("validate-dataset", {"datasetId": world.dataset_small})).json()
    assert result["valid"] is False
    assert [error["rule"] for error in result["errors"]] == ["too_few_pairs"]
    assert (result["errors"][0]["pairId"], result["errors"][0]["ordinal"]) == (None, None)


async def test_a_viewer_may_not(world: World) -> None:
    response = await world.call("validate-dataset", {"datasetId": world.dataset}, world.viewer_token)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
