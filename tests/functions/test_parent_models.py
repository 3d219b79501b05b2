"""A model of the project as base model: who may take it, where it is to be had, what children know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devstack.up import Stack
from shared.errors import ProviderBusy
from shared.providers.base import ProviderReport
from shared.training.catalog import TINY
from shared.training.config import METHODS
from shared.training.spec import ParentModel, RunResult, RunState
from tests.functions.world import World, make_dataset, make_world, own_functions, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

SUM = "a" * 64


@dataclass
class House:
    world: World
    providers: dict[
        str, ScriptedProvider
    ]  # disk, other: each with a disk; rented: none; vendor: its own trainer

    async def start(
        self, base_model: str, *, token: str | None = None, **more: Any
    ) -> tuple[int, dict[str, Any]]:
        dataset = more.pop("dataset", None) or await self.world.new_dataset(pairs=12)
        body = {"datasetId": dataset, "provider": "rented", "baseModel": base_model} | more
        answer = await self.world.call("start-training", body, token)
        return answer.status_code, answer.json()

    async def model(
        self, base_model: str = TINY, *, provider: str = "rented", path: str | None = "storage", **more: Any
    ) -> str:
        """The id of a model that this provider has made. path: "storage" for one there."""
        status, answer = await self.start(base_model, provider=provider, **more)
        assert status == 202, answer
        job = answer["jobId"]
        stored = f"storage:{self.world.project}/{job}/1/{SUM}"
        where = stored if path == "storage" else path
        result = RunResult(
            state=RunState.COMPLETED, artifact_path=where, provider_model_id=None if where else f"ft:{job}"
        )
        self.providers[provider].runs[job] = ProviderReport("completed", result=result)
        assert (await self.world.call("poll-training", {"jobId": job})).status_code == 200
        ((model,),) = self.world.rows("select id from public.fine_tuned_models where job_id = %s", job)
        return str(model)

    async def refused(self, base_model: str, **more: Any) -> tuple[int, str, str]:
        """Status, code and sentence, the same from estimate-training; nothing was started."""
        dataset = more.pop("dataset", None) or await self.world.new_dataset(pairs=12)
        told = []
        for function in ("estimate-training", "start-training"):
            body = {"datasetId": dataset, "provider": "rented", "baseModel": base_model} | more
            answer = await self.world.call(function, body)
            error = answer.json()["error"]
            told.append((answer.status_code, error["code"], error["message"]))
        assert told[0] == told[1]
        assert self.world.rows("select 1 from public.training_jobs where dataset_id = %s", dataset) == []
        return told[0]

    def row(self, table: str, row_id: str) -> dict[str, Any]:
        ((row,),) = self.world.rows(f"select to_jsonb(r) from public.{table} r where id = %s", row_id)
        return dict(row)


@pytest.fixture(scope="module")
async def house(stack: Stack) -> AsyncIterator[House]:
    providers = {
        "disk": ScriptedProvider("disk", methods=METHODS),
        "other": ScriptedProvider("other", methods=METHODS),
        "local": ScriptedProvider("local", methods=METHODS),
        "rented": ScriptedProvider("rented", methods=METHODS, keeps_disk=False),
        "vendor": ScriptedProvider("vendor", methods=METHODS, runs_our_trainer=False),
    }
    async with make_world(stack) as made, own_functions(made, available=providers) as world:
        with undisturbed(made):
            yield House(world, providers)


async def test_a_child_knows_its_parent_and_the_first_of_its_line(house: House) -> None:
    parent = await house.model()
    child = await house.model(f"model:{parent}", provider="disk", path="/runs/1/artifact", method="lora")
    (spec,) = [spec for spec in house.providers["disk"].specs if spec.base_model == f"model:{parent}"]
    stored = house.row("fine_tuned_models", parent)["artifact_path"]
    assert spec.parent == ParentModel(root_base_model=TINY, artifact_path=stored)
    assert spec.config.batch_size == 4  # automatic for the tiny model
    grandchild = await house.model(f"model:{child}", provider="disk", path="/runs/2/artifact")
    lines = [house.row("fine_tuned_models", model) for model in (parent, child, grandchild)]
    assert [line["parent_model_id"] for line in lines] == [None, parent, child]
    assert {line["root_base_model"] for line in lines} == {TINY}
    jobs = [house.row("training_jobs", line["job_id"]) for line in lines]
    assert [job["parent_model_id"] for job in jobs] == [None, parent, child]


async def test_it_is_sized_and_looked_at_as_what_it_began_with(house: House) -> None:
    parent = await house.model()
    dataset = await house.world.new_dataset(pairs=12)
    estimates = []
    for base in (TINY, f"model:{parent}"):
        asked = {"datasetId": dataset, "baseModel": base}
        assert (await house.world.call("validate-dataset", asked)).json()["xray"]["baseModel"] == TINY
        answer = await house.world.call("estimate-training", asked | {"provider": "rented", "method": "lora"})
        assert answer.status_code == 200, answer.text
        estimates.append({k: v for k, v in answer.json().items() if k not in ("baseModel", "notes")})
    assert estimates[0] == estimates[1]
    advised = await house.world.call(
        "estimate-training", {"datasetId": dataset, "baseModel": f"model:{parent}", "advise": True}
    )
    assert advised.status_code == 200, advised.text
    assert advised.json()["advice"]["template"]["base_model"] == f"model:{parent}"
    assert advised.json()["provider"] in house.providers


async def test_who_sees_a_model_may_take_it_in_its_project(house: House) -> None:
    world, model = house.world, f"model:{await house.model()}"
    dataset = await world.new_dataset(pairs=12)
    asked = {"datasetId": dataset, "provider": "rented", "baseModel": model}
    assert (await world.call("estimate-training", asked, world.viewer_token)).status_code == 200
    status, answer = await house.start(model, token=world.viewer_token)
    assert (status, answer["error"]["code"]) == (403, "forbidden")
    theirs = await _project_of(world, world.stranger_token)
    their_dataset = make_dataset(world.stack, theirs, pairs=12)
    status, answer = await house.start(model, token=world.stranger_token, dataset=their_dataset)
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    mine = await _project_of(world, world.token)
    refused = await house.refused(model, dataset=make_dataset(world.stack, mine, pairs=12))
    assert refused[:2] == (422, "base_model_misplaced")
    assert "another project" in refused[2]
    assert (await house.refused(f"model:{uuid4()}"))[:2] == (404, "model_not_found")
    status, answer = await house.start("model:../../x")
    assert (status, answer["error"]["code"]) == (422, "invalid_request")


async def test_where_it_cannot_be_had_nothing_starts(house: House, tmp_path: Path) -> None:
    created = {name: provider.created for name, provider in house.providers.items()}
    by_vendor = await house.model(provider="vendor", path=None, base_model="gpt-9")
    in_storage = await house.model()
    on_disk = await house.model(provider="disk", path="/runs/3/artifact")
    gone = await house.model(provider="local", path=str(tmp_path / "gone"))
    vectors = await house.model(method="embedding")
    deleted = await house.model()
    house.world.rows("update public.fine_tuned_models set status = 'deleted' where id = %s", deleted)
    made = {name: provider.created - created[name] for name, provider in house.providers.items()}
    assert made == {"disk": 1, "other": 0, "local": 1, "rented": 3, "vendor": 1}
    misplaced = (422, "base_model_misplaced")
    for model, more, wanted, said in (
        (by_vendor, {}, misplaced, "vendor keeps the weights"),
        (in_storage, {"provider": "vendor"}, misplaced, "vendor trains models of its own"),
        (on_disk, {"provider": "other"}, misplaced, "lies on the disk of 'disk'"),
        (on_disk, {"provider": "rented"}, misplaced, "Take provider 'disk'"),
        (gone, {"provider": "local"}, misplaced, "not on this machine any more"),
        (vectors, {"method": "lora"}, misplaced, "makes vectors"),
        (in_storage, {"baseRevision": "a" * 40}, (422, "base_revision_misplaced"), "one revision"),
        (deleted, {}, (409, "model_not_ready"), f"or {TINY}, which"),
    ):
        status, code, message = await house.refused(f"model:{model}", **more)
        assert (status, code) == wanted, message
        assert said in message


async def test_one_that_is_deleted_before_the_start_is_not_paid_for(house: House) -> None:
    model, provider = await house.model(), house.providers["rented"]
    provider.start_error = ProviderBusy("full", retry_after_seconds=0)
    try:
        status, answer = await house.start(f"model:{model}")
    finally:
        provider.start_error = None
    assert (status, answer["status"]) == (202, "pending")
    house.world.rows("update public.fine_tuned_models set status = 'deleted' where id = %s", model)
    created = provider.created
    await house.world.call("poll-training", {"jobId": answer["jobId"]})
    job = house.row("training_jobs", answer["jobId"])
    assert (job["status"], job["error"]["code"]) == ("failed", "model_not_ready")
    assert provider.created == created


async def _project_of(world: World, token: str) -> str:
    """A new project of who holds the token."""
    headers = {"apikey": world.stack.publishable_key, "authorization": f"Bearer {token}"}
    headers["prefer"] = "return=representation"
    async with httpx.AsyncClient(base_url=world.stack.url) as http:
        made = await http.post("/rest/v1/projects", json={"name": "q"}, headers=headers)
    return str(made.json()[0]["id"])
