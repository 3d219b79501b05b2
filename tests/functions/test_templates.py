"""Settings by name: built in or the project's own, and what is said beside them."""

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


async def estimate(world: World, **options: Any) -> httpx.Response:
    return await world.call("estimate-training", {"datasetId": world.dataset, **options})


async def save(world: World, name: str, config: dict[str, Any], **columns: Any) -> httpx.Response:
    """As supabase-js inserts a row."""
    row = {"project_id": world.project, "name": name, "method": "lora", "training_config": config, **columns}
    headers = {"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.token}"}
    headers |= {"prefer": "return=representation"}
    return await world.http.post("/rest/v1/training_templates", json=row, headers=headers)


async def test_a_built_in_template_sets_what_is_not_said(world: World) -> None:
    planned = (await estimate(world, template="quick-try")).json()
    config = planned["trainingConfig"]
    assert (planned["method"], planned["baseModel"]) == ("lora", "fineflow/tiny")
    assert (config["epochs"], config["loraR"], config["maxLength"]) == (1, 8, 512)
    assert config["learningRate"] == 8e-3  # still chosen for the base model and the method
    said = await estimate(world, template="quick-try", method="full", trainingConfig={"epochs": 4})
    assert said.json()["method"] == "full"
    assert (said.json()["trainingConfig"]["epochs"], said.json()["trainingConfig"]["maxLength"]) == (4, 512)
    embedding = (await estimate(world, template="embeddings")).json()
    assert (embedding["method"], embedding["baseModel"]) == (
        "embedding",
        "sentence-transformers/all-MiniLM-L6-v2",
    )


async def test_the_projects_own_goes_before_a_built_in_one(world: World) -> None:
    saved = await save(world, "balanced", {"loraR": 4, "target_modules": ["q_proj", "v_proj"]})
    assert saved.status_code == 201, saved.text
    (row,) = saved.json()
    for reference in ("balanced", row["id"]):
        config = (await estimate(world, template=reference)).json()["trainingConfig"]
        assert (config["loraR"], config["targetModules"]) == (4, ["q_proj", "v_proj"])
    assert (await save(world, "balanced", {})).status_code == 409  # one of a name
    started = await world.call(
        "start-training",
        {"datasetId": world.dataset, "template": "balanced", "trainingConfig": {"epochs": 1}},
    )
    assert started.status_code == 202, started.text
    ((method, config),) = world.rows(
        "select method, training_config from training_jobs where id = %s", started.json()["jobId"]
    )
    assert (method, config["epochs"], config["lora_r"]) == ("lora", 1, 4)


async def test_nobody_takes_a_template_of_another_project(world: World) -> None:
    ((theirs,),) = world.rows(
        "with p as (insert into projects (owner_id, name) select owner_id, 'q' from projects where id = %s"
        " returning id) insert into training_templates (project_id, name, method) select id, 'theirs', 'lora'"
        " from p returning id::text",
        world.project,
    )
    for reference in ("theirs", theirs, "a name,project_id.neq.x"):
        answer = await estimate(world, template=reference)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "template_not_found")


@pytest.mark.parametrize(
    ("config", "field"),
    [({"epochs": 500}, "epochs"), ({"warpFactor": 9}, "warpFactor"), ({"lora_r": None}, "lora_r")],
)
async def test_settings_that_no_training_has_are_named(
    world: World, config: dict[str, Any], field: str
) -> None:
    name = f"bad {field}"
    assert (await save(world, name, config)).status_code == 201
    answer = await estimate(world, template=name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "template_invalid")
    assert field in answer.json()["error"]["message"]


async def test_a_template_too_large_is_no_row(world: World) -> None:
    assert (await save(world, "large", {f"x{n}": "y" * 99 for n in range(900)})).status_code >= 400
    assert world.rows("select from training_templates where name = 'large'") == []


async def test_a_model_of_vectors_is_not_taught_answers(world: World) -> None:
    answer = await estimate(world, template="embeddings", method="lora")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "base_model_misplaced")
    assert "'embedding'" in answer.json()["error"]["message"]
