"""Advice over the real stack: chosen for the rows, kept only as a template, and never applied by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from devstack.up import Stack
from tests.functions.world import World, make_world


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def advise(world: World, **options: Any) -> httpx.Response:
    return await world.call("estimate-training", {"datasetId": world.dataset, "advise": True, **options})


async def test_the_advice_is_estimated_and_starts_nothing(world: World) -> None:
    answer = (await advise(world, baseModel="fineflow/tiny")).json()
    advice = answer["advice"]
    assert (answer["provider"], answer["method"], answer["baseModel"]) == ("local", "full", "fineflow/tiny")
    assert answer["trainingConfig"]["epochs"] == 100 // 12
    assert answer["durationSeconds"]["high"] is not None
    assert answer["memoryParts"]["weights"] == 4 * 656_000
    assert advice["meetsLimits"]
    assert all(choice["reason"] and choice["source"] for choice in advice["choices"])
    assert world.rows("select from training_jobs where project_id = %s", world.project) == []
    assert world.rows("select from training_templates where project_id = %s", world.project) == []


async def test_what_the_request_names_stays(world: World) -> None:
    answer = (await advise(world, baseModel="fineflow/tiny", trainingConfig={"epochs": 2, "seed": 7})).json()
    assert (answer["trainingConfig"]["epochs"], answer["trainingConfig"]["seed"]) == (2, 7)
    lora = (await advise(world, baseModel="fineflow/tiny", method="lora")).json()
    assert (lora["method"], lora["trainingConfig"]["loraR"]) == ("lora", 8)


async def test_its_template_trains_what_was_advised(world: World) -> None:
    advised = (await advise(world, baseModel="fineflow/tiny")).json()
    row = {"project_id": world.project, "name": "as advised", **advised["advice"]["template"]}
    headers = {"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.token}"}
    saved = await world.http.post("/rest/v1/training_templates", json=row, headers=headers)
    assert saved.status_code == 201, saved.text
    again = await world.call("estimate-training", {"datasetId": world.dataset, "template": "as advised"})
    assert again.json()["trainingConfig"] == advised["trainingConfig"]
    assert again.json()["advice"] is None


async def test_limits_that_nothing_keeps_are_said(world: World) -> None:
    answer = (await advise(world, baseModel="Qwen/Qwen3-4B", provider="local", deadlineSeconds=60)).json()
    assert answer["advice"]["meetsLimits"] is False
    unheld = await advise(world, baseModel="x/huge-900B", provider="local")
    assert (unheld.status_code, unheld.json()["error"]["code"]) == (422, "nothing_to_advise")


async def test_who_may_be_advised(world: World) -> None:
    body = {"datasetId": world.dataset, "advise": True, "baseModel": "fineflow/tiny"}
    assert (await world.call("estimate-training", body, world.viewer_token)).status_code == 200
    stranger = await world.call("estimate-training", body, world.stranger_token)
    assert stranger.json()["error"]["code"] == "dataset_not_found"
    empty = await world.new_dataset(pairs=0)
    refused = await world.call("estimate-training", {"datasetId": empty, "advise": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "dataset_too_small")


@pytest.mark.parametrize(
    "wrong", [{"budgetUsd": 0}, {"deadlineSeconds": 1}, {"goal": "fame"}, {"deadlineSeconds": 10**9}]
)
async def test_limits_have_their_range(world: World, wrong: dict[str, Any]) -> None:
    assert (await advise(world, **wrong)).status_code == 422
