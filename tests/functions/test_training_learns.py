"""What the X-ray found is what estimate-training counts, and why start-training refuses."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from devstack.up import Stack
from shared.training.catalog import TINY
from shared.training.tiny.tokenizer import tiny_tokenizer
from tests.functions.world import World, make_world, own_functions

SHORT = {"trainingConfig": {"maxLength": 16}}  # less than any row of these datasets has


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def estimated(world: World, dataset: str, **options: Any) -> dict[str, Any]:
    response = await world.call("estimate-training", {"datasetId": dataset, **options})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def refused(world: World, **request: Any) -> tuple[int, str]:
    """Status and code of a start that makes no job."""
    response = await world.call("start-training", request)
    jobs = "select count(*) from public.training_jobs where dataset_id = %s"
    assert world.rows(jobs, request["datasetId"]) == [(0,)]
    return response.status_code, response.json()["error"]["code"]


async def test_an_estimate_counts_what_the_xray_counted_until_something_changes(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    before = await estimated(world, dataset)
    assert (before["trainedTokens"], before["trainingTokens"]) == (None, 12 * 12)
    assert any("o200k_base" in note for note in before["notes"])
    result = (await world.call("validate-dataset", {"datasetId": dataset, "baseModel": TINY})).json()
    seen = result["xray"]
    after = await estimated(world, dataset, method="lora")
    assert (after["trainingTokens"], after["trainedTokens"]) == (seen["tokens"], seen["trainedTokens"])
    assert after["billableTokens"] == 3 * seen["tokens"]
    assert any("are learned and the others only read" in note for note in after["notes"])
    assert (await estimated(world, dataset, **SHORT))["trainedTokens"] is None  # another limit
    world.rows("update public.training_pairs set rating = 5 where dataset_id = %s", dataset)
    assert (await estimated(world, dataset))["trainedTokens"] == seen["trainedTokens"]  # the file is the same
    edit = "update public.training_pairs set assistant_message = 'No.' where dataset_id = %s and ordinal = 3"
    world.rows(edit, dataset)
    assert (await estimated(world, dataset))["trainedTokens"] is None


async def test_a_dataset_that_trains_nothing_is_not_started(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    assert await refused(world, datasetId=dataset, **SHORT) == (422, "trains_nothing")  # looked at now
    asked = {"datasetId": dataset, "baseModel": TINY, "maxLengthTokens": 16}
    assert (await world.call("validate-dataset", asked)).json()["valid"] is False
    assert await refused(world, datasetId=dataset, **SHORT) == (422, "trains_nothing")  # known
    notes = (await estimated(world, dataset, **SHORT))["notes"]
    assert "It would not be started: No row trains anything." in notes


async def test_a_row_that_the_template_refuses_stops_the_start(world: World, tmp_path: Path) -> None:
    base = tmp_path / "models" / "strict"
    shutil.copytree(tiny_tokenizer(tmp_path), base)
    template = "{% if 'door 7' in messages[0].content %}{{ raise_exception('no door 7') }}{% endif %}"
    own = (base / "chat_template.jinja").read_text()
    (base / "chat_template.jinja").write_text(template + own)
    dataset = await world.new_dataset(pairs=12)
    asked = {"datasetId": dataset, "baseModel": str(base)}
    async with own_functions(world, base_model_dirs=(tmp_path / "models",)) as house:
        result = (await house.call("validate-dataset", asked)).json()
        (found,) = result["errors"]
        assert (found["rule"], found["ordinal"]) == ("row_refused", 8)
        assert "no door 7" in found["message"]
        assert await refused(house, **asked) == (422, "rows_refused")
        outside = {"datasetId": dataset, "baseModel": f"{base}/../../models2"}
        response = await house.call("validate-dataset", outside)
        assert response.json()["error"]["code"] == "tokenizer_unavailable"
    response = await world.call("validate-dataset", asked)
    assert response.json()["error"]["code"] == "tokenizer_unavailable"
