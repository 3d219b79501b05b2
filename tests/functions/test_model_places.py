"""Places in Storage for a trained model: for the trainer that has the claim, within limits, in its folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from devstack.up import Stack
from functions.context import Services
from shared.errors import Conflict, FineFlowError
from shared.models.cache import ModelCache
from shared.models.fetching import fetch, from_storage
from shared.models.stored import StoredModel, stored, whereabouts
from shared.providers.huggingface import HuggingFaceProvider
from shared.training.model_files import PIECE_BYTES, ModelFile, ModelFiles
from shared.training.spec import ModelPlaces, ReportReceipt
from tests.fakes.huggingface import FakeHuggingFace
from tests.functions.server import functions_over
from tests.functions.world import World, make_world, undisturbed

CONTENTS = {"artifact/config.json": b"{}", "artifact/model.safetensors": b"weights", "trained.json": b"{} "}


def files_with(contents: dict[str, bytes]) -> ModelFiles:
    return ModelFiles(
        files=tuple(
            ModelFile(name=name, size_bytes=len(content), pieces=(hashlib.sha256(content).hexdigest(),))
            for name, content in contents.items()
        )
    )


@dataclass
class Trainer:
    """What a container knows, and what it says."""

    http: httpx.AsyncClient
    job_id: str
    url: str
    token: str
    run_id: str
    attempt: int = 1

    async def says(self, **fields: Any) -> httpx.Response:
        body = {"attempt": self.attempt, "runId": self.run_id, "reports": [{"seq": 1, "kind": "claim"}]}
        headers = {"authorization": f"Bearer {self.token}"}
        return await self.http.post(self.url, json=body | fields, headers=headers)

    async def asks(self, files: ModelFiles) -> ModelPlaces:
        answer = await self.says(modelFiles=files.model_dump(mode="json"))
        assert answer.status_code == 200, answer.text
        places = ReportReceipt.model_validate_json(answer.content).model_places
        assert places
        return places

    async def puts(self, url: str, content: bytes) -> int:
        return (await self.http.put(url, content=content)).status_code

    async def stores(self, contents: dict[str, bytes]) -> StoredModel:
        """The model, all of which is in Storage."""
        files = files_with(contents)
        asked = await self.asks(files)
        by_sum = {hashlib.sha256(content).hexdigest(): content for content in contents.values()}
        for place in asked.places:
            assert await self.puts(place.url, by_sum[place.sha256]) == 200
        model = stored((await self.asks(files)).artifact_path)
        assert model
        return model


@dataclass
class House:
    world: World
    fake: FakeHuggingFace
    services: Services

    async def request(self, **more: Any) -> httpx.Response:
        request = {"datasetId": await self.world.new_dataset(pairs=12), "provider": "huggingface"}
        return await self.world.call("start-training", request | {"apiKey": self.fake.api_key} | more)

    async def trainer(self, **more: Any) -> Trainer:
        """Of a new job; it has the claim."""
        answer = await self.request(**more)
        assert answer.status_code == 202, answer.text
        job = list(self.fake.jobs.values())[-1]
        given = job.body["environment"]
        trainer = Trainer(
            self.world.http, answer.json()["jobId"], given["FINEFLOW_REPORT_URL"],
            job.secrets["FINEFLOW_TRAINER_TOKEN"], given["FINEFLOW_RUN_ID"],
        )  # fmt: skip
        work = (await trainer.says(wantWork=True)).json()["work"]
        assert work["storesModel"] is True
        assert (work["spec"]["parent"] is not None) == ("baseModel" in more)
        return trainer

    def registered(self, model: StoredModel) -> str:
        """The id of the row of this model."""
        ((row,),) = self.world.rows(
            "insert into public.fine_tuned_models (project_id, job_id, name, provider, base_model, method,"
            " artifact_path) values (%s, %s, 'm', 'huggingface', 'fineflow/tiny', 'full', %s) returning id",
            self.world.project, model.job_id, str(model),
        )  # fmt: skip
        return str(row)


@pytest.fixture(scope="module")
async def house(stack: Stack) -> AsyncIterator[House]:
    with FakeHuggingFace() as fake:
        provider = HuggingFaceProvider(image="i", endpoint=fake.url, timeout_seconds=5)
        async with (
            make_world(stack) as made,
            functions_over(stack, {"huggingface": provider}) as (url, services),
            httpx.AsyncClient(base_url=url, timeout=60) as http,
        ):
            with undisturbed(made):
                yield House(replace(made, http=http), fake, services)
                made.rows(
                    "update training_jobs set status = 'cancelled' where project_id = %s"
                    " and status not in ('completed', 'failed', 'cancelled')",
                    made.project,
                )


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_what_is_there_is_not_asked_for_again(house: House) -> None:
    trainer, files = await house.trainer(), files_with(CONTENTS)
    first = await trainer.asks(files)
    assert (first.missing_bytes, first.artifact_path) == (files.size_bytes, None)
    assert [place.sha256 for place in first.places] == list(files.pieces())
    by_sum = {hashlib.sha256(content).hexdigest(): content for content in CONTENTS.values()}
    one, two, three = first.places
    assert await trainer.puts(one.url, by_sum[one.sha256]) == 200
    assert await trainer.puts(one.url, by_sum[one.sha256]) == 200  # an answer got lost
    assert await trainer.puts(two.url, b"cut") == 200  # another size than was said
    again = await trainer.asks(files)
    assert {place.sha256 for place in again.places} == {two.sha256, three.sha256}
    for place in again.places:
        assert await trainer.puts(place.url, by_sum[place.sha256]) == 200
    done = await trainer.asks(files)
    model = stored(done.artifact_path)
    assert model == StoredModel(UUID(house.world.project), UUID(trainer.job_id), 1, files.sha256)
    assert (await trainer.asks(files)) == done


async def test_only_who_has_the_claim_gets_places(house: House) -> None:
    trainer, files = await house.trainer(), files_with(CONTENTS).model_dump(mode="json")
    late = replace(trainer, run_id=str(uuid4()))
    assert code(await late.says(modelFiles=files)) == (409, "claim_lost")
    assert code(await replace(trainer, attempt=2).says(modelFiles=files)) == (401, "invalid_token")
    assert (await replace(trainer, token="x").says(modelFiles=files)).status_code == 401
    house.world.rows("update training_jobs set status = 'cancelled' where id = %s", trainer.job_id)
    assert code(await trainer.says(modelFiles=files)) == (409, "claim_lost")


SUM = "0" * 64


@pytest.mark.parametrize(
    "name",
    [
        "../a.json", "artifact/../../a.json", "/etc/a.json", "artifact/.hidden.json", "artifact/a.py",
        "artifact/pytorch_model.bin", "artifact/a.json/b.json", "artifact\\a.json", "artifact/a.json\n",
        "artifact/" + "a" * 200 + ".json", "status.json", "artifact/a\u0000.json", "artifact//a.json", "",
    ],
)  # fmt: skip
async def test_hostile_names_are_refused(house: House, name: str) -> None:
    trainer = await house.trainer()
    files = {"files": [{"name": name, "size_bytes": 1, "pieces": [SUM]}]}
    assert code(await trainer.says(modelFiles=files)) == (422, "invalid_request")


@pytest.mark.parametrize(
    "files",
    [
        [],
        [{"name": "artifact/a.json", "size_bytes": 1, "pieces": []}],
        [{"name": "artifact/a.json", "size_bytes": PIECE_BYTES + 1, "pieces": [SUM]}],
        [{"name": "artifact/a.json", "size_bytes": 1, "pieces": ["../x"]}],
        [{"name": "artifact/a.json", "size_bytes": -1, "pieces": []}],
        [{"name": f"artifact/{name}.json", "size_bytes": 1, "pieces": [SUM]} for name in "aA"],
        [{"name": f"artifact/{n}.json", "size_bytes": 0, "pieces": []} for n in range(1001)],
    ],
    ids=["none", "no pieces", "too few", "a path", "negative", "twice", "too many"],
)
async def test_lists_that_cannot_be_are_refused(house: House, files: list[dict[str, Any]]) -> None:
    trainer = await house.trainer()
    assert code(await trainer.says(modelFiles={"files": files})) == (422, "invalid_request")


async def test_a_model_over_the_limit_is_refused_with_what_to_do(house: House) -> None:
    trainer = await house.trainer()
    limit = house.services.settings.model_storage_limit_bytes
    pieces = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(-(-(limit + 1) // PIECE_BYTES))]
    files = {"files": [{"name": "artifact/model.safetensors", "size_bytes": limit + 1, "pieces": pieces}]}
    answer = await trainer.says(modelFiles=files)
    assert code(answer) == (413, "artifact_too_large")
    assert "FINEFLOW_MODEL_STORAGE_LIMIT_BYTES" in answer.json()["error"]["message"]


async def test_a_model_that_will_be_too_large_is_not_trained(house: House) -> None:
    before = len(house.fake.jobs)
    answer = await house.request(baseModel="Qwen/Qwen3-32B", method="qlora", gpu="a100-large")
    assert code(answer) == (413, "artifact_too_large")
    assert len(house.fake.jobs) == before


async def test_no_trainer_says_that_its_model_is_somebody_elses(house: House) -> None:
    victim = await (await house.trainer()).stores(CONTENTS)
    trainer = await house.trainer()
    for path in (str(victim), "storage:../../x", f"storage:{victim.folder}/../{victim.sha256}"):
        result = {"state": "completed", "artifact_path": path}
        answer = await trainer.says(reports=[{"seq": 2, "kind": "result", "result": result}])
        assert code(answer) == (422, "artifact_path_invalid"), path


async def test_nobody_but_trainers_writes_models(house: House) -> None:
    model = await (await house.trainer()).stores(CONTENTS)
    stack = house.world.stack
    for token in (house.world.token, house.world.viewer_token, house.world.stranger_token):
        headers = {"apikey": stack.publishable_key, "authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=f"{stack.url}/storage/v1", headers=headers) as http:
            for path in (f"{model.folder}/{model.sha256}", f"{model.folder}/{'1' * 64}"):
                assert (await http.post(f"/object/models/{path}", content=b"x")).status_code >= 400
                assert (await http.put(f"/object/models/{path}", content=b"x")).status_code >= 400
                assert (await http.post(f"/object/upload/sign/models/{path}", json={})).status_code >= 400
            await http.request(
                "DELETE", "/object/models", json={"prefixes": [f"{model.folder}/{model.sha256}"]}
            )
    limit = house.world.rows("select file_size_limit, public from storage.buckets where id = 'models'")
    assert limit == [(PIECE_BYTES, False)]
    assert (await house.services.models.artifact(model) / "config.json").read_bytes() == b"{}"


async def test_a_trainer_gets_addresses_of_the_model_that_it_starts_from(house: House) -> None:
    parent = await (await house.trainer()).stores(CONTENTS)
    other = await (await house.trainer()).stores({"artifact/config.json": b"of another"})
    model = house.registered(parent)
    trainer = await house.trainer(baseModel=f"model:{model}")
    # A run that has begun ends, whatever becomes of the row.
    house.world.rows("update public.fine_tuned_models set status = 'deleted' where id = %s", model)
    weights = hashlib.sha256(b"weights").hexdigest()
    answer = await trainer.says(basePieces=[parent.sha256, weights])
    places = ReportReceipt.model_validate_json(answer.content).base_places
    assert [place.sha256 for place in places] == [parent.sha256, weights]
    listed, content = [(await trainer.http.get(place.url)).content for place in places]
    assert listed == files_with(CONTENTS).content()
    assert content == b"weights"
    for piece in (other.sha256, SUM):
        assert code(await trainer.says(basePieces=[piece])) == (409, "base_model_gone")
    for hostile in (["../x"], [weights] * 17):
        assert code(await trainer.says(basePieces=hostile)) == (422, "invalid_request")
    late = replace(trainer, run_id=str(uuid4()))
    assert code(await late.says(basePieces=[weights])) == (409, "claim_lost")
    childless = await house.trainer()
    assert code(await childless.says(basePieces=[weights])) == (422, "base_model_misplaced")


async def test_a_fetch_goes_on_where_it_was_and_proves_what_it_gets(house: House, tmp_path: Path) -> None:
    trainer = await house.trainer()
    model = await trainer.stores(CONTENTS)
    weights = hashlib.sha256(b"weights").hexdigest()
    storage = house.services.storage
    await storage.upload("models", f"{model.folder}/{weights}", b"changed", "application/octet-stream")
    with pytest.raises(Conflict) as refused:
        await fetch(model, from_storage(model, storage), tmp_path / "model")
    assert refused.value.code == "model_damaged"
    assert not (tmp_path / "model").exists()
    await storage.upload("models", f"{model.folder}/{weights}", b"weights", "application/octet-stream")
    draft = tmp_path / "model.fetching" / "artifact"
    (draft / "model.safetensors").write_bytes(b"wei")  # as after a kill
    told: list[tuple[int, int]] = []
    await fetch(
        model, from_storage(model, storage), tmp_path / "model", told=lambda *numbers: told.append(numbers)
    )
    found = {name: (tmp_path / "model" / name).read_bytes() for name in CONTENTS}
    assert found == CONTENTS
    assert told == [(9, 12), (12, 12)]  # config.json was there


async def test_a_file_of_several_pieces_comes_back_as_it_was(house: House, tmp_path: Path) -> None:
    trainer = await house.trainer()
    parts = [bytes([7]) * PIECE_BYTES, b"the end"]  # a bucket takes a piece of full size
    sums = tuple(hashlib.sha256(part).hexdigest() for part in parts)
    files = ModelFiles(
        files=(ModelFile(name="artifact/model.safetensors", size_bytes=PIECE_BYTES + 7, pieces=sums),)
    )
    for place, part in zip((await trainer.asks(files)).places, parts, strict=True):
        assert await trainer.puts(place.url, part) == 200
    model = stored((await trainer.asks(files)).artifact_path)
    assert model
    draft = tmp_path / "model.fetching" / "artifact"
    draft.mkdir(parents=True)
    (draft / "model.safetensors").write_bytes(parts[0] + b"the")  # as after a kill in the second
    told: list[tuple[int, int]] = []
    await fetch(
        model, from_storage(model, house.services.storage), tmp_path / "model", told=lambda *n: told.append(n)
    )
    assert told == [(files.size_bytes, files.size_bytes)]
    assert (tmp_path / "model" / "artifact" / "model.safetensors").read_bytes() == b"".join(parts)


async def test_the_cache_keeps_what_was_asked_for_last(house: House, tmp_path: Path) -> None:
    trainer = await house.trainer()
    models = [await trainer.stores(CONTENTS | {"artifact/a.txt": bytes([n] * 10)}) for n in (65, 66, 67)]
    cache = ModelCache(tmp_path, house.services.storage, most_bytes=50)  # each has 22
    first = await cache.artifact(models[0])
    second = await cache.artifact(models[1])
    await cache.artifact(models[0])
    await cache.artifact(models[2])
    assert first.is_dir()
    assert not second.exists()
    both = await asyncio.gather(cache.artifact(models[1]), cache.artifact(models[1]))
    assert both == [second, second]
    with pytest.raises(FineFlowError) as refused:
        await ModelCache(tmp_path / "small", house.services.storage, most_bytes=5).artifact(models[0])
    assert refused.value.code == "model_over_cache"


def test_one_field_says_where_weights_are(tmp_path: Path) -> None:
    here = StoredModel(uuid4(), uuid4(), 3, SUM)
    assert stored(str(here)) == here
    assert whereabouts(str(here)) == "storage"
    assert whereabouts(str(tmp_path)) == "here"
    assert whereabouts("/fineflow/runs/none/artifact") == "elsewhere"
    assert whereabouts(None) == "provider"
    assert json.loads(files_with(CONTENTS).content())["files"][0]["name"] == "artifact/config.json"
