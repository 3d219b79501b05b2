"""What a document reached, told exactly, and taken back: all of it planted on the stack."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from devstack.up import Stack
from shared.errors import ProviderRejected
from shared.providers.base import ProviderReport
from shared.training.spec import RunResult, RunState
from tests.functions.documents import HANDBOOK, until, upload
from tests.functions.world import World, make_world, own_functions, undisturbed
from tests.shared.providers.scripted import ScriptedProvider


@dataclass
class House:
    world: World
    provider: ScriptedProvider
    stack_http: Any

    async def rpc(self, name: str, token: str | None = None, **arguments: Any) -> Any:
        """What PostgREST answers: the value, or the status and the error's code."""
        answer = await self.stack_http.post(
            f"/rest/v1/rpc/{name}",
            json={f"p_{key}": value for key, value in arguments.items()},
            headers={
                "apikey": self.world.stack.publishable_key,
                "authorization": f"Bearer {token or self.world.token}",
            },
        )
        return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json()["code"])

    async def document(self, name: str, text: str) -> str:
        row = await upload(self.uploading, name, text.encode())
        assert row["status"] == "ready"
        return str(row["id"])

    @property
    def uploading(self) -> World:
        """The world behind the stack's own front door, which alone takes files."""
        return World(**{**vars(self.world), "http": self.stack_http})

    async def dataset(self, name: str, *documents: str) -> str:
        body = {"projectId": self.world.project, "datasetName": name, "documentIds": documents}
        answer = await self.uploading.call("generate-dataset", body)
        assert answer.status_code == 202, answer.text
        dataset = str(answer.json()["datasetId"])
        row = await until(self.uploading, "training_datasets", dataset, "status", {"ready", "failed"})
        assert row["status"] == "ready", row["error"]
        return dataset

    async def start(self, dataset: str, name: str) -> str:
        body = {"datasetId": dataset, "provider": "scripted", "modelName": name}
        answer = await self.world.call("start-training", body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["jobId"])

    async def model(self, dataset: str, name: str) -> tuple[str, str]:
        """The job and its model."""
        job = await self.start(dataset, name)
        result = RunResult(state=RunState.COMPLETED, provider_model_id=f"ft:{name}", training_loss=0.1)
        self.provider.runs[job] = ProviderReport("completed", result=result)
        assert (await self.world.call("poll-training", {"jobId": job})).status_code == 200
        ((model,),) = self.world.rows("select id from public.fine_tuned_models where job_id = %s", job)
        return job, str(model)

    def pairs_of(self, document: str, dataset: str | None = None, *, only_valid: bool = False) -> set[str]:
        """By the chunks that they were made from, which is how they were planted."""
        rows = self.world.rows(
            "select p.id from public.training_pairs p join public.chunks k on k.id = p.chunk_id"
            " where k.document_id = %s and p.dataset_id = coalesce(%s, p.dataset_id)"
            " and (p.is_valid or not %s)",
            document,
            dataset,
            only_valid,
        )
        return {str(row[0]) for row in rows}

    def given(self, job: str) -> set[str]:
        rows = self.world.rows("select document_id from public.training_job_documents where job_id = %s", job)
        return {str(row[0]) for row in rows}

    def state(self, *datasets: str) -> list[tuple[Any, ...]]:
        return self.world.rows(
            "select id, is_valid, issues, review_status from public.training_pairs"
            " where dataset_id = any (%s::uuid[]) order by id",
            list(datasets),
        )


@pytest.fixture(scope="module")
async def house(stack: Stack) -> AsyncIterator[House]:
    provider = ScriptedProvider()
    async with make_world(stack) as made, own_functions(made, available={"scripted": provider}) as world:
        with undisturbed(made):
            yield House(world, provider, made.http)


def ids(reach: dict[str, Any], part: str) -> set[str]:
    return {each["id"] for each in reach[part]}


def halves() -> tuple[str, str]:
    """Two documents that say nothing alike."""
    text = HANDBOOK.decode()
    middle = text.index("\n## ", len(text) // 2)
    return text[:middle], "# The other half\n" + text[middle:]


async def test_recall_finds_exactly_what_was_planted_and_a_retrain_is_clean(house: House) -> None:
    ours, theirs = halves()
    document, other = await house.document("ours.md", ours), await house.document("theirs.md", theirs)
    both = await house.dataset("both", document, other)
    apart = await house.dataset("apart", other)
    untrained = await house.dataset("untrained", document)
    job, model = await house.model(both, "reached")
    _, clean = await house.model(apart, "clean")
    for name, at in (("front", model), ("back", clean)):
        body = {"action": "deploy", "modelId": at, "deploymentName": name}
        assert (await house.world.call("manage-models", body)).status_code == 200
    house.world.rows(
        "update public.deployments set candidate_model_id = %s, candidate_percent = 10 where name = 'back'",
        model,
    )
    trained = house.pairs_of(document, both, only_valid=True)
    # After the training: a pair that is rejected and one that is deleted were trained on all the same.
    gone, rejected = sorted(trained)[:2]
    house.world.rows("delete from public.training_pairs where id = %s", gone)
    house.world.rows("update public.training_pairs set review_status = 'rejected' where id = %s", rejected)
    # Another training goes on from the tuned model.
    house.world.rows("update public.training_datasets set status = 'ready' where id = %s", apart)
    later, later_model = await house.model(apart, "later")
    house.world.rows(
        "update public.fine_tuned_models set base_model = 'ft:reached' where id = %s", later_model
    )
    # A third goes on from that one by its id; a fourth is under way.
    house.world.rows("update public.training_datasets set status = 'ready' where id = %s", apart)
    _, third_model = await house.model(apart, "third")
    house.world.rows("update public.training_datasets set status = 'ready' where id = %s", apart)
    under_way = await house.start(apart, "fourth")
    for table, base, row in (
        ("fine_tuned_models", later_model, third_model),
        ("training_jobs", third_model, under_way),
    ):
        house.world.rows(f"update public.{table} set base_model = 'model:' || %s where id = %s", base, row)

    wanted = {
        "chunks": {
            str(r[0])
            for r in house.world.rows("select id from public.chunks where document_id = %s", document)
        },
        "pairs": house.pairs_of(document),
        "datasets": {both, untrained},
        "jobs": {job, under_way},
        "models": {model, later_model, third_model},
    }
    before, unrelated = house.state(both, apart, untrained), house.state(apart)
    reach = await house.rpc("document_reach", house.world.viewer_token, document_id=document)
    assert {part: ids(reach, part) for part in wanted} == wanted
    assert (reach["document"]["status"], reach["withdrawal"]) == ("ready", None)
    assert set(reach["jobs"][0]["pair_ids"]) == trained
    assert {each["id"]: each["from_model_id"] for each in reach["models"]} == {
        model: None,
        later_model: model,
        third_model: later_model,
    }
    assert {each["id"]: each["from_model_id"] for each in reach["jobs"]} == {
        job: None,
        under_way: third_model,
    }
    assert {(each["name"], each["slot"]) for each in reach["deployments"]} == {
        ("front", "live"),
        ("back", "candidate"),
    }
    assert reach["datasets"][0]["usable_pair_count"] == len(trained) - 2

    answer = await house.rpc("withdraw_document", document_id=document, reason="The author asked for it.")
    assert {part: ids(answer, part) for part in wanted} == wanted
    assert answer["withdrawal"]["reason"] == "The author asked for it."
    assert {each["usable_pair_count"] for each in answer["datasets"]} == {0}
    assert house.pairs_of(document, only_valid=True) == set()
    assert house.state(apart) == unrelated
    counted = house.world.rows(
        "select (stats ->> 'valid_pairs')::int, validation, content_hash from public.training_datasets"
        " where id = %s",
        untrained,
    )
    assert counted == [(0, None, None)]
    repeated = await house.rpc("withdraw_document", document_id=document, reason="again")
    assert repeated == answer
    refused = await house.world.call("start-training", {"datasetId": untrained, "provider": "scripted"})
    assert refused.json()["error"]["code"] == "dataset_too_small"
    retrain = await house.start(both, "retrained")
    assert house.given(retrain) == {other}
    assert ids(await house.rpc("document_reach", document_id=document), "jobs") == wanted["jobs"]
    generate = {"projectId": house.world.project, "datasetName": "x", "documentIds": [document]}
    assert (await house.world.call("generate-dataset", generate)).json()["error"][
        "code"
    ] == "document_not_ready"

    back = await house.rpc("restore_document", document_id=document)
    assert (back["document"]["status"], back["withdrawal"]) == ("ready", None)
    assert house.state(both, apart, untrained) == before

    house.world.rows("delete from public.documents where id = %s", document)
    deleted = await house.rpc("document_reach", document_id=document)
    assert (deleted["document"]["status"], deleted["document"]["name"]) == ("deleted", "ours.md")
    assert {part: ids(deleted, part) for part in wanted} == wanted | {"chunks": set()}
    assert {each["usable_pair_count"] for each in deleted["datasets"]} == {0}
    assert later not in ids(deleted, "jobs")


async def test_who_may_see_and_withdraw(house: House) -> None:
    document = await house.document(
        "roles.md", "# Roles\n\nThe editor of the gazette is called Henrike Ole.\n"
    )
    viewer, stranger = house.world.viewer_token, house.world.stranger_token
    assert (await house.rpc("document_reach", viewer, document_id=document))["document"]["name"] == "roles.md"
    assert await house.rpc("document_reach", stranger, document_id=document) is None
    assert await house.rpc("document_reach", document_id=str(uuid4())) is None
    for name in ("withdraw_document", "restore_document"):
        assert await house.rpc(name, viewer, document_id=document) == (403, "forbidden")
        assert await house.rpc(name, stranger, document_id=document) == (404, "document_not_found")
        anonymous = house.world.stack.publishable_key
        assert (await house.rpc(name, anonymous, document_id=document))[0] in (401, 403)
    long = await house.rpc("withdraw_document", document_id=document, reason="x" * 2001)
    assert long == (422, "reason_too_long")
    ((status,),) = house.world.rows("select status from public.documents where id = %s", document)
    assert status == "ready"


async def test_generation_in_progress_skips_the_document(house: House) -> None:
    document = await house.document("skipped.md", "# Skipped\n\nThe weir keeper Mads Roe opens six gates.\n")
    chunk = "select array_agg(id) from public.chunks where document_id = %s"
    new_dataset = f"select public.create_generated_dataset(%s, ({chunk})) ->> 'id'"
    facts = json.dumps(
        {"project_id": house.world.project, "name": "d", "format": "openai", "mode": "auto", "generation": {}}
    )
    house.world.rows("alter table public.training_datasets disable trigger call_generate_dataset")
    try:
        datasets = [house.world.rows(new_dataset, facts, document)[0][0] for _ in range(2)]
        ((claimed,),) = house.world.rows("select public.claim_dataset_chunks(%s, 9, 60)", datasets[0])
        await house.rpc("withdraw_document", document_id=document)
        datasets.append(house.world.rows(new_dataset, facts, document)[0][0])
    finally:
        house.world.rows("alter table public.training_datasets enable trigger call_generate_dataset")
    pair = [{"ordinal": 0, "user_message": "q", "assistant_message": "a", "is_valid": True, "issues": []}]
    (item,) = claimed
    saved = house.world.rows(
        "select public.save_chunk_pairs(%s, %s, %s)", item["id"], item["lease_token"], json.dumps(pair)
    )
    assert saved == [(False,)]
    for dataset in datasets:
        assert house.world.rows("select public.claim_dataset_chunks(%s, 9, 60)", dataset) == [([],)]
        rows = house.world.rows(
            "select w.status, w.error ->> 'code', d.chunks_failed from public.dataset_chunks w"
            " join public.training_datasets d on d.id = w.dataset_id where d.id = %s",
            dataset,
        )
        assert rows == [("failed", "source_withdrawn", 1)]
        ((ended,),) = house.world.rows("select public.finish_dataset(%s)", dataset)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "source_withdrawn")


async def test_no_write_makes_a_withheld_pair_usable(house: House) -> None:
    document = await house.document(
        "withheld.md", "# Withheld\n\nThe miller Karsten Beck grinds rye on Fridays.\n"
    )
    dataset = await house.world.new_dataset(pairs=3)
    house.world.rows(
        "update public.training_pairs set document_id = %s, chunk_id = (select id from public.chunks"
        " where document_id = %s) where dataset_id = %s",
        document,
        document,
        dataset,
    )
    house.world.rows(
        "update public.training_pairs set is_valid = false, issues = '{too_long}'"
        " where dataset_id = %s and ordinal = 2",
        dataset,
    )
    state = "select is_valid, issues from public.training_pairs where dataset_id = %s order by ordinal"
    before = house.world.rows(state, dataset)
    await house.rpc("withdraw_document", document_id=document)
    withheld = (False, ["source_withdrawn"])
    assert house.world.rows(state, dataset) == [withheld, withheld, (False, ["too_long"])]
    # An edit, an undo and a late insert believe that the pair is good.
    house.world.rows(
        "update public.training_pairs set is_valid = true, issues = '{}' where dataset_id = %s", dataset
    )
    house.world.rows(
        "insert into public.training_pairs (dataset_id, project_id, chunk_id, ordinal, user_message,"
        " assistant_message) select %s, %s, id, 9, 'q', 'a' from public.chunks where document_id = %s",
        dataset,
        house.world.project,
        document,
    )
    assert house.world.rows(state, dataset) == [withheld] * 4
    await house.rpc("restore_document", document_id=document)
    assert house.world.rows(state, dataset)[:2] == before[:2]
    house.world.rows(
        "update public.training_pairs set is_valid = false, issues = '{source_withdrawn}'"
        " where dataset_id = %s",
        dataset,
    )
    assert {row[0] for row in house.world.rows(state, dataset)} == {True}


async def test_duplicates_take_the_place_of_what_is_withdrawn(house: House) -> None:
    text = "# Ferry\n\n" + " ".join(
        f"The ferry number {n} leaves the pier of Lund at {n} sharp." for n in range(9)
    )
    first, second = await house.document("f1.md", text), await house.document("f2.md", text)
    flag = "select is_duplicate, duplicate_of is not null from public.chunks where document_id = %s"
    assert house.world.rows(flag, second) == [(True, True)]
    answer = await house.rpc("withdraw_document", document_id=first)
    assert [(near["document_id"], near["similarity"]) for near in answer["near_duplicates"]] == [(second, 1)]
    assert house.world.rows(flag, second) == [(False, False)]
    third = await house.document("f3.md", text)
    await house.rpc("restore_document", document_id=first)
    assert house.world.rows(flag, second) == [(False, False)]
    assert house.world.rows(flag, first) == house.world.rows(flag, third) == [(True, True)]


async def test_a_start_that_was_refused_gave_nothing_away(house: House) -> None:
    document = await house.document("refused.md", "# Refused\n\nThe baker Ole Holm sells rolls at six.\n")
    dataset = await house.world.new_dataset(pairs=12)
    house.world.rows(
        "update public.training_pairs set document_id = %s where dataset_id = %s", document, dataset
    )
    house.provider.start_error = ProviderRejected("quota is used up", code="quota")
    try:
        job = await house.start(dataset, "refused")
    finally:
        house.provider.start_error = None
    assert house.given(job) == set()
    job = await house.start(dataset, "accepted")
    assert house.given(job) == {document}


async def test_what_a_trainer_fetches_is_what_it_was_given(house: House) -> None:
    document = await house.document(
        "fetched.md", "# Fetched\n\nThe smith Jon Bakke shoes ponies in spring.\n"
    )
    other = await house.document(
        "fetched2.md", "# Also\n\nA cooper named Rasmus Due mends barrels in autumn.\n"
    )
    dataset = await house.world.new_dataset(pairs=12)
    house.world.rows(
        "update public.training_pairs set document_id = %s where dataset_id = %s", document, dataset
    )
    job = await house.start(dataset, "fetching")
    fetch = "select public.record_fetched_documents(%s, 1, %s)"
    pairs = [str(uuid4()) for _ in range(3)]
    house.world.rows(fetch, job, json.dumps({other: pairs[:2]}))
    assert house.given(job) == {other}
    house.world.rows(fetch, job, json.dumps({other: pairs[1:]}))
    ((fetched,),) = house.world.rows(
        "select pair_ids from public.training_job_documents where job_id = %s", job
    )
    assert set(map(str, fetched)) == set(pairs)
    await house.rpc("withdraw_document", document_id=document)
    with pytest.raises(psycopg.errors.RaiseException, match="withdrawn while"):
        house.world.rows(fetch, job, json.dumps({document: pairs}))
    assert house.given(job) == {other}


async def test_a_withdrawal_waits_for_what_is_being_given_away_and_tells_it(house: House) -> None:
    document = await house.document(
        "raced.md", "# Raced\n\nThe pilot Siv Lund boards tankers off the cape.\n"
    )
    dataset = await house.world.new_dataset(pairs=12)
    job = await house.start(dataset, "racing")
    pair = str(uuid4())
    with psycopg.connect(house.world.stack.database_url) as database:
        database.execute(
            "select public.record_fetched_documents(%s, 1, %s)", [job, json.dumps({document: [pair]})]
        )
        withdrawal = asyncio.ensure_future(house.rpc("withdraw_document", document_id=document))
        done, _ = await asyncio.wait([withdrawal], timeout=0.5)
        assert not done
        database.commit()
    answer = await withdrawal
    assert [(each["id"], each["pair_ids"]) for each in answer["jobs"]] == [(job, [pair])]


async def test_a_document_without_chunks_waits_for_them_again(house: House) -> None:
    row = await upload(house.uploading, "unread.odt", b"PK", mime_type="application/octet-stream")
    assert row["status"] == "failed"
    document = row["id"]
    assert (await house.rpc("withdraw_document", document_id=document))["document"]["status"] == "withdrawn"
    assert (await house.rpc("restore_document", document_id=document))["document"]["status"] == "uploaded"
    history = house.world.rows(
        "select reason, is_deletion, withdrawn_by::text, restored_by::text, restored_at is not null"
        " from public.document_withdrawals where document_id = %s",
        document,
    )
    assert history == [(None, False, house.world.user, house.world.user, True)]
