"""split-dataset on the running stack; what a split promises is tested in tests/shared/datasets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from devstack.up import Stack
from shared.datasets.store import build_training_file
from shared.db import Database, http_client
from tests.functions.documents import until
from tests.functions.world import World, make_world
from tests.shared.datasets.planted import sentence


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def of_documents(world: World, *, documents: int = 12, pairs: int = 36) -> str:
    """A dataset whose pairs rest on so many documents, in turn."""
    dataset = await world.new_dataset(pairs=pairs)
    add_documents(world, dataset, [uuid4() for _ in range(documents)])
    return dataset


def add_documents(world: World, dataset: str, documents: list[UUID]) -> None:
    # The words are many and of their own, so that nothing is alike by chance.
    world.rows(
        "update public.training_pairs set document_id = (%s::uuid[])[1 + ordinal %% %s],"
        " assistant_message = (select string_agg(md5(id::text || n), ' ') from generate_series(1, 20) n)"
        " where dataset_id = %s and document_id is null",
        documents,
        len(documents),
        dataset,
    )


def placed(world: World, dataset: str) -> dict[str, tuple[str, str]]:
    rows = world.rows(
        "select id, split, cluster_id from public.training_pairs where dataset_id = %s", dataset
    )
    return {str(pair): (split, str(cluster)) for pair, split, cluster in rows}


async def split(world: World, dataset: str, **asked: Any) -> dict[str, Any]:
    answer = await world.call("split-dataset", {"datasetId": dataset, **asked})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_every_usable_pair_has_its_part_and_training_takes_only_its_own(world: World) -> None:
    dataset = await of_documents(world)
    world.rows(
        "update public.training_pairs set is_valid = false where dataset_id = %s and ordinal = 35", dataset
    )
    shares = {"trainFraction": 0.6, "validationFraction": 0.2, "testFraction": 0.2}
    found = await split(world, dataset, **shares, seed=7)
    rows = placed(world, dataset)
    assert {cluster for _, cluster in rows.values() if cluster != "None"} <= set(rows)
    assert sum(found["counts"].values()) == 35
    assert min(found["counts"].values()) > 0
    assert sum(found["groupCounts"].values()) == 12
    divided = world.rows(
        "select document_id from public.training_pairs where dataset_id = %s and is_valid"
        " group by 1 having count(distinct split) + count(distinct cluster_id) <> 2",
        dataset,
    )
    assert divided == []
    ((row, content_hash),) = world.rows(
        "select split, content_hash from public.training_datasets where id = %s", dataset
    )
    assert (row["seed"], row["fractions"]) == (7, {"train": 0.6, "validation": 0.2, "test": 0.2})
    assert (row["counts"], row["made_at"]) == (found["counts"], found["madeAt"])
    assert content_hash == row["content_hash"] == found["contentHash"]
    estimate = await world.call("estimate-training", {"datasetId": dataset})
    assert estimate.json()["exampleCount"] == found["counts"]["train"]
    async with http_client() as http:
        key = world.stack.secret_key
        db = Database(world.stack.url, api_key=key, bearer=key, http=http)
        file = await build_training_file(db, UUID(dataset))
    assert file.validation
    assert file.validation.row_count == found["counts"]["validation"]


async def test_a_second_delivery_changes_nothing_and_new_pairs_move_no_other(world: World) -> None:
    dataset = await of_documents(world)
    first, again = await asyncio.gather(split(world, dataset), split(world, dataset))
    assert first | {"changedPairs": 0} == again | {"changedPairs": 0}
    assert sorted((first["changedPairs"], again["changedPairs"])) == [0, 36]
    before = placed(world, dataset)
    world.rows(
        "insert into public.training_pairs (dataset_id, project_id, ordinal, user_message, assistant_message)"
        " select %s, %s, n, 'And what of ' || md5(n::text) || '?', 'x' from generate_series(100, 119) n",
        dataset,
        world.project,
    )
    add_documents(world, dataset, [uuid4(), uuid4(), uuid4(), uuid4()])
    later = await split(world, dataset)
    assert (later["changedPairs"], sum(later["counts"].values())) == (20, 56)
    after = placed(world, dataset)
    assert {pair: after[pair] for pair in before} == before
    assert later["contentHash"] != first["contentHash"]


async def test_another_plan_needs_a_restart(world: World) -> None:
    dataset = await of_documents(world)
    await split(world, dataset, seed=1)
    refused = await world.call("split-dataset", {"datasetId": dataset, "seed": 2})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "already_split")
    assert refused.json()["error"]["details"]["seed"] == 1
    anew = await split(world, dataset, seed=2, trainFraction=0.5, testFraction=0.5, restart=True)
    assert anew["counts"]["validation"] == 0
    assert anew["changedPairs"] > 0
    assert (await split(world, dataset))["seed"] == 2


async def test_one_document_is_divided_by_its_chunks_with_a_warning(world: World) -> None:
    dataset = await world.new_dataset(pairs=24)
    ((document,),) = world.rows(
        "insert into public.documents (project_id, name, storage_path, mime_type, byte_size, status)"
        " values (%s, 'd', %s, 'text/plain', 1, 'ready') returning id",
        world.project,
        f"{world.project}/{uuid4()}",
    )
    world.rows(
        "insert into public.chunks (document_id, project_id, ordinal, content, content_hash, char_start,"
        " char_end, heading_path, token_count, quality_score)"
        " select %s, %s, n, 'c', md5(n::text), n, n + 1, array['Book', 'Part ' || n / 2], 1, 1"
        " from generate_series(0, 11) n",
        document,
        world.project,
    )
    world.rows(
        "update public.training_pairs p set chunk_id = k.id from public.chunks k"
        " where p.dataset_id = %s and k.document_id = %s and k.ordinal = p.ordinal / 2",
        dataset,
        document,
    )
    add_documents(world, dataset, [document])
    found = await split(world, dataset)
    assert (sum(found["groupCounts"].values()), found["warnings"][0]["rule"]) == (6, "one_document")
    assert min(found["counts"].values()) > 0
    divided = world.rows(
        "select heading_path from public.training_pairs p join public.chunks k on k.id = p.chunk_id"
        " where dataset_id = %s group by 1 having count(distinct split) > 1",
        dataset,
    )
    assert divided == []
    checked = await split(world, dataset, check=True)
    assert (checked["leaks"], checked["madeAt"]) == ([], found["madeAt"])


async def test_what_an_uploaded_split_gives_away_is_listed_pair_by_pair(world: World) -> None:
    rng = random.Random(1)
    answers = [" ".join(sentence(rng, 30)) for _ in range(12)]
    answers[8], answers[11] = answers[0].upper(), f"{answers[9]} indeed"
    names = ["train"] * 8 + ["valid"] * 2 + ["Test"] * 2
    rows = [
        {"prompt": "Which words?", "completion": answer, "split": name}
        for answer, name in zip(answers, names, strict=True)
    ]
    body = {"projectId": world.project, "datasetName": "uploaded", "rows": rows}
    dataset = (await world.call("import-dataset", body)).json()["datasetId"]
    await until(world, "training_datasets", dataset, "status", {"ready"})
    report = await world.call("split-dataset", {"datasetId": dataset, "check": True}, world.viewer_token)
    found = report.json()
    assert found["leakCounts"] == {"exact": 1, "near": 1, "source": 0}
    told = [(leak["kind"], leak["firstSplit"], leak["secondSplit"]) for leak in found["leaks"]]
    assert told == [("exact", "train", "validation"), ("near", "validation", "test")]
    assert (found["counts"], found["seed"]) == ({"train": 8, "validation": 2, "test": 2}, None)
    estimate = await world.call("estimate-training", {"datasetId": dataset})
    assert estimate.json()["exampleCount"] == 8, "training takes no row that came as one of another part"
    mended = await split(world, dataset)
    assert {remark["rule"] for remark in mended["warnings"]} >= {"pairs_moved", "split_of_the_file"}
    assert (await split(world, dataset, check=True))["leakCounts"] == {"exact": 0, "near": 0, "source": 0}


async def test_a_split_that_fails_half_way_is_none(world: World) -> None:
    dataset = await of_documents(world)
    ids = list(placed(world, dataset))
    groups = [{"split": "train", "pair_ids": ids[:20]}, {"split": "nowhere", "pair_ids": ids[20:]}]
    with psycopg.connect(world.stack.database_url) as database, pytest.raises(psycopg.errors.CheckViolation):
        database.execute(
            "select public.save_dataset_split(%s, null, '{}', %s)",
            [dataset, psycopg.types.json.Jsonb(groups)],
        )
    assert set(placed(world, dataset).values()) == {(None, "None")}


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"trainFraction": 0.9}, 422, "invalid_request"),
        ({"trainFraction": 1.5}, 422, "invalid_request"),
        ({"groupBy": "chapter"}, 422, "group_by_unknown"),
        ({"seed": -1}, 422, "invalid_request"),
        ({"datasetId": str(uuid4())}, 404, "dataset_not_found"),
    ],
)
async def test_refusals(world: World, asked: dict[str, Any], status: int, code: str) -> None:
    answer = await world.call("split-dataset", {"datasetId": world.dataset, **asked})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_who_may_split_and_when(world: World) -> None:
    body = {"datasetId": world.dataset}
    assert (await world.call("split-dataset", body, world.viewer_token)).status_code == 403
    assert (await world.call("split-dataset", body, world.stranger_token)).status_code == 404
    busy = await world.call("split-dataset", {"datasetId": world.dataset_generating})
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "dataset_not_ready")
    empty = await world.new_dataset(pairs=0)
    answer = await world.call("split-dataset", {"datasetId": empty})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "dataset_empty")
