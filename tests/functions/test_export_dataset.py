"""export-dataset on the running stack; the formats themselves are tested in tests/shared/datasets."""

import hashlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pyarrow.parquet as pq
import pytest

from devstack.up import Stack
from shared.datasets.store import build_training_file
from shared.db import Database, http_client
from tests.functions.documents import upload
from tests.functions.world import World, make_world

FIELDS = {
    "openai": {"messages"},
    "anthropic": {"prompt", "completion"},
    "alpaca": {"instruction", "input", "output"},
    "sharegpt": {"conversations"},
    "chatml": {"text"},
}


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


@pytest.mark.parametrize("format", FIELDS)
async def test_the_file_is_behind_a_signed_address(world: World, format: str) -> None:
    response = await world.call("export-dataset", {"datasetId": world.dataset, "format": format})
    assert response.status_code == 200, response.text
    export = response.json()
    assert (export["format"], export["pairCount"], export["expiresInSeconds"]) == (format, 12, 3600)
    async with httpx.AsyncClient() as anybody:
        content = (await anybody.get(export["signedUrl"])).content
    assert len(content) == export["byteSize"]
    name = f"{format}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    assert export["path"] == f"{world.project}/{world.dataset}/{name}"
    rows = [json.loads(line) for line in content.decode().splitlines()]
    assert [set(row) for row in rows] == [FIELDS[format]] * 12
    assert "door 3" in json.dumps(rows[3]).lower()


async def test_the_datasets_own_format_is_the_default_and_equal_exports_are_one_file(world: World) -> None:
    first = (await world.call("export-dataset", {"datasetId": world.dataset})).json()
    second = (await world.call("export-dataset", {"datasetId": world.dataset})).json()
    assert (first["format"], first["path"]) == ("openai", second["path"])


async def test_only_usable_pairs_leave_and_viewers_may_take_them(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    update = "update public.training_pairs set {} where dataset_id = %s and ordinal = %s"
    world.rows(update.format("is_valid = false"), dataset, 1)
    world.rows(update.format("review_status = 'rejected'"), dataset, 2)
    export = (await world.call("export-dataset", {"datasetId": dataset}, world.viewer_token)).json()
    assert export["pairCount"] == 10


async def test_a_dataset_of_more_than_a_page_is_whole(world: World) -> None:
    dataset = await world.new_dataset(pairs=2_003)
    export = (await world.call("export-dataset", {"datasetId": dataset, "format": "alpaca"})).json()
    assert export["pairCount"] == 2_003
    async with http_client() as http:
        key = world.stack.secret_key
        db = Database(world.stack.url, api_key=key, bearer=key, http=http)
        file = await build_training_file(db, UUID(dataset))
        again = await build_training_file(db, UUID(dataset))
    lines = file.content.decode().splitlines()
    assert (file.row_count, len(lines), file.token_count) == (2_003, 2_003, 2_003 * 12)
    assert file.sha256 == hashlib.sha256(file.content).hexdigest() == again.sha256
    asked = [json.loads(line)["messages"][0]["content"] for line in lines]
    assert [question.rstrip("?").split()[-1] for question in asked] == [str(i) for i in range(2_003)]


async def test_what_cannot_be_exported_says_why(world: World) -> None:
    empty = await world.new_dataset(pairs=0)
    response = await world.call("export-dataset", {"datasetId": empty})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "dataset_empty")
    forged = await world.new_dataset(pairs=10)
    world.rows(
        "update public.training_pairs set assistant_message = 'x<|im_end|>'"
        " where dataset_id = %s and ordinal = 3",
        forged,
    )
    response = await world.call("export-dataset", {"datasetId": forged, "format": "chatml"})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "turn_marker_in_pair")
    assert response.json()["error"]["details"]["ordinal"] == 4
    left = {"datasetId": forged, "format": "chatml", "skipUnheld": True}
    export = (await world.call("export-dataset", left)).json()
    assert (export["pairCount"], export["skippedCount"], export["skipped"][0]["ordinal"]) == (9, 1, 4)
    response = await world.call("export-dataset", {"datasetId": forged, "format": "parquet"})
    assert response.status_code == 422
    response = await world.call("export-dataset", {"datasetId": forged}, world.stranger_token)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "dataset_not_found")


async def test_a_row_names_its_document_and_a_card_lies_beside(world: World) -> None:
    document = await upload(world, "gates.md", b"# Gates\n\nThe north gate opens at seven in the morning.\n")
    dataset = await world.new_dataset(pairs=10)
    world.rows(
        "update public.training_pairs p set chunk_id = c.id, document_id = c.document_id, char_start = 9,"
        " char_end = 30, split = 'test', review_status = 'approved', generator = 'extractive'"
        " from public.chunks c where p.dataset_id = %s and p.ordinal = 3 and c.document_id = %s"
        " and c.ordinal = 0",
        dataset,
        document["id"],
    )
    request = {"datasetId": dataset, "include": "approved", "split": "test", "withProvenance": True}
    export = (await world.call("export-dataset", request, world.viewer_token)).json()
    (pair_id,) = world.rows(
        "select id::text from public.training_pairs where dataset_id = %s and ordinal = 3", dataset
    )[0]
    async with httpx.AsyncClient() as anybody:
        (line,) = (await anybody.get(export["signedUrl"])).text.splitlines()
        card = (await anybody.get(export["cardUrl"])).text
    row = json.loads(line)
    assert row.pop("messages")[0]["content"] == "What opens door 3?"
    assert row == {
        "pair_id": pair_id, "document_id": document["id"], "document_name": "gates.md", "chunk_ordinal": 0,
        "char_start": 9, "char_end": 30, "generator": "extractive", "review_status": "approved",
        "is_gold_star": False, "split": "test",
    }  # fmt: skip
    assert "| Made by | extractive 1 |" in card
    assert Path(export["path"]).name in card


async def test_a_table_is_whole_behind_its_address(world: World) -> None:
    request = {"datasetId": world.dataset, "format": "alpaca", "container": "parquet"}
    export = (await world.call("export-dataset", request)).json()
    async with httpx.AsyncClient() as anybody:
        content = (await anybody.get(export["signedUrl"])).content
    assert hashlib.sha256(content).hexdigest() == export["sha256"]
    table = pq.read_table(io.BytesIO(content)).to_pylist()
    assert table[3] == {
        "instruction": "What opens door 3?", "input": "", "output": "Door 3 opens with 21."
    }  # fmt: skip
