"""Files, rows and logs become datasets, on the running stack."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from devstack.install import TIKTOKEN_DIR
from devstack.up import Stack
from shared.db import Database, http_client
from shared.imports.options import ImportOptions
from shared.imports.process import ReaderDied, RowReader
from shared.imports.work import work_on_import
from shared.storage import Storage
from shared.tokens import count_tokens
from tests.functions.documents import until
from tests.functions.world import World, make_world

MINE = {"datasetName": "Mine"}


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


def chat(question: str, answer: str, **columns: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **columns}


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


async def upload(world: World, name: str, content: bytes, token: str | None = None) -> str:
    """The path of a file that the owner has uploaded."""
    path = f"{world.project}/{uuid4()}/{name}"
    key = world.stack.publishable_key
    stored = await world.http.post(
        f"/storage/v1/object/uploads/{path}",
        content=content,
        headers={"apikey": key, "authorization": f"Bearer {token or world.token}"},
    )
    assert stored.status_code == 200, stored.text
    return path


async def ask(world: World, **body: Any) -> httpx.Response:
    token = body.pop("token", None)
    return await world.call(
        "import-dataset", {"projectId": world.project, "datasetName": "Mine", **body}, token
    )


async def imported(world: World, **body: Any) -> dict[str, Any]:
    """The dataset's row once it is imported, or is not."""
    answer = await ask(world, **body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "generating"
    dataset = answer.json()["datasetId"]
    return await until(world, "training_datasets", dataset, "status", {"ready", "failed"})


def pairs(world: World, dataset: dict[str, Any], columns: str) -> list[tuple[Any, ...]]:
    return world.rows(
        f"select {columns} from public.training_pairs where dataset_id = %s order by ordinal", dataset["id"]
    )


async def test_several_files_of_several_formats_become_one_dataset(world: World) -> None:
    tool = {"type": "function", "function": {"name": "light", "parameters": {}}}
    call = {"id": "1", "type": "function", "function": {"name": "light", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Light it."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "done", "tool_call_id": "1"},
        {"role": "assistant", "content": "It is lit.", "weight": 1},
    ]
    plain = [chat(f"Question {n}? 灯", f"Answer {n}, naïve and 🦩.", shelf=n) for n in range(9)]
    own = json.dumps([{"Query": "Is it tall?", "Reply": "Very."}], indent=1).encode()
    paths = [
        await upload(world, "chat.jsonl", jsonl([*plain, {"messages": turns, "tools": [tool]}])),
        await upload(world, "own.json", own),
        await upload(
            world, "better.jsonl", jsonl([{"prompt": "Tall?", "chosen": "Yes.", "rejected": "No."}])
        ),
        await upload(world, "kto.jsonl", jsonl([{"prompt": "Tall?", "completion": "No.", "label": False}])),
    ]
    dataset = await imported(
        world,
        files=[
            {"path": paths[0]},
            {"path": paths[1], "name": "own-names.json"},
            *({"path": p} for p in paths[2:]),
        ],
        mapping={"question": "Query", "answer": "Reply"},
        systemPrompt="You keep the light.",
    )
    assert (dataset["status"], dataset["error"], dataset["source"]) == ("ready", None, "upload")
    assert (dataset["pair_count"], dataset["rows_done"]) == (13, 13)
    assert (dataset["file_count"], dataset["files_done"]) == (4, 4)
    assert dataset["byte_count"] == dataset["bytes_done"] > 1000
    found = pairs(
        world,
        dataset,
        "ordinal, kind, system_message, user_message, assistant_message, rejected_message, is_desirable,"
        " messages, tools, metadata, source_name, source_line, token_count",
    )
    system = "You keep the light."
    assert [row[0] for row in found] == list(range(1, 14))
    assert found[4][1:12] == (
        "sft", system, "Question 4? 灯", "Answer 4, naïve and 🦩.", None, None, None, None, {"shelf": 4},
        "chat.jsonl", 5,
    )  # fmt: skip
    assert found[9][2:4] == (None, None)
    assert found[9][7] == [{"role": "system", "content": system}, *turns]
    assert found[9][8] == [tool]
    assert found[10][3:5] == ("Is it tall?", "Very.")
    assert found[10][10:12] == ("own-names.json", 2)
    assert found[11][1:7] == ("preference", system, "Tall?", "Yes.", "No.", None)
    assert found[12][1:7] == ("kto", system, "Tall?", "No.", None, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(TIKTOKEN_DIR))
        counted = [
            sum(count_tokens(turn["content"]) for turn in row[7])
            if row[7]
            else sum(count_tokens(text) for text in row[2:5])
            for row in found
        ]
    assert [row[12] for row in found] == counted
    assert dataset["stats"]["total_tokens"] == sum(counted)
    assert (dataset["stats"]["total_pairs"], dataset["stats"]["valid_pairs"]) == (13, 13)
    validated = (await world.call("validate-dataset", {"datasetId": dataset["id"]})).json()
    assert dataset["validation"] | {"checkedAt": None} == validated | {"checkedAt": None}
    assert validated["stats"]["kinds"] == {"sft": 11, "preference": 1, "kto": 1}
    report = dataset["import_report"]
    assert [file["format"] for file in report["files"]] == ["openai", "question_answer", "dpo", "kto"]
    assert report["files"][0]["evidence"] == "messages in 10 of the first 10 rows"
    assert report["totals"] == {
        "rows": 13,
        "pairs": 13,
        "badRows": 0,
        "leftOut": {},
        "counts": report["totals"]["counts"],
    }


@pytest.fixture(scope="module")
def one_bad_row() -> bytes:
    rows = [chat(f"Question {n}?", f"Answer {n}.") for n in range(1000)]
    rows[616]["messages"].reverse()
    return jsonl(rows)


async def test_one_bad_row_in_a_thousand_keeps_all_out(world: World, one_bad_row: bytes) -> None:
    path = await upload(world, "rows.jsonl", one_bad_row)
    dataset = await imported(world, files=[{"path": path}])
    assert (dataset["status"], dataset["pair_count"]) == ("failed", 0)
    assert dataset["error"]["code"] == "bad_rows"
    assert dataset["error"]["details"]["file"] == "rows.jsonl"
    assert dataset["error"]["details"]["line"] == 617
    assert "rows.jsonl, line 617" in dataset["error"]["message"]
    assert pairs(world, dataset, "id") == []
    assert dataset["import_report"]["totals"]["badRows"] == 1
    assert dataset["import_report"]["files"][0]["errors"][0]["line"] == 617


async def test_one_bad_row_leaves_the_others_when_asked(world: World, one_bad_row: bytes) -> None:
    path = await upload(world, "rows.jsonl", one_bad_row)
    dataset = await imported(world, files=[{"path": path}], skipBadRows=True)
    assert (dataset["status"], dataset["error"], dataset["pair_count"]) == ("ready", None, 999)
    lines = [row[0] for row in pairs(world, dataset, "source_line")]
    assert lines == [line for line in range(1, 1001) if line != 617]
    assert dataset["import_report"]["totals"]["badRows"] == 1
    (file,) = dataset["import_report"]["files"]
    assert {error["line"] for error in file["errors"]} == {617}
    assert file["valid"] is False


async def test_rows_of_the_call_are_read_by_the_same_rules(world: World) -> None:
    rows: list[Any] = [{"question": f"q {n}", "answer": f"a {n}"} for n in range(10)]
    dataset = await imported(world, rows=rows)
    assert (dataset["status"], dataset["source"], dataset["pair_count"]) == ("ready", "rows", 10)
    assert pairs(world, dataset, "source_name, source_line")[3] == ("rows", 4)
    validated = await world.call("validate-dataset", {"datasetId": dataset["id"]})
    assert dataset["validation"] | {"checkedAt": None} == validated.json() | {"checkedAt": None}
    bad = [
        {"question": "nul", "answer": "a\0b"},
        {"question": "half", "answer": "\ud83d"},
        {"question": "number", "answer": "x", "score": float("nan")},
        "no object",
        {"Question": "q", "Answer": "a"},
    ]
    answer = await world.http.post(  # as httpx would not write it
        "/functions/v1/import-dataset",
        content=json.dumps({**MINE, "projectId": world.project, "rows": rows + bad, "skipBadRows": True}),
        headers={"authorization": f"Bearer {world.token}", "content-type": "application/json"},
    )
    dataset = await until(
        world, "training_datasets", answer.json()["datasetId"], "status", {"ready", "failed"}
    )
    assert (dataset["status"], dataset["pair_count"]) == ("ready", 10)
    found = {(error["rule"], error["line"]) for error in dataset["import_report"]["files"][0]["errors"]}
    assert found == {
        ("nul", 11), ("lone_surrogate", 12), ("not_a_number", 13), ("not_an_object", 14),
        ("unknown_format", 15),
    }  # fmt: skip


async def test_rated_conversations_become_pairs_of_their_kind(world: World) -> None:
    logs = [
        chat("q1", "a1", rating=5, gold_star=True, metadata={"lang": "en", "turns": 3}),
        chat("q2", "a2", feedback="down", correction="better", metadata={"lang": "en", "turns": 9}),
        chat("q3", "a3", feedback="down", metadata={"lang": "en"}),
        chat("q4", "a4", rating=2, metadata={"lang": "de"}),
    ]
    dataset = await imported(world, conversations=logs, filter={"lang": "en"})
    assert (dataset["status"], dataset["source"]) == ("ready", "conversations")
    assert pairs(world, dataset, "kind, assistant_message, rejected_message, rating, is_gold_star") == [
        ("sft", "a1", None, 5, True),
        ("preference", "better", "a2", None, False),
    ]
    assert dataset["import_report"]["totals"]["leftOut"] == {"feedback": 1, "filter": 1}
    path = await upload(world, "log.jsonl", jsonl(logs))
    dataset = await imported(world, files=[{"path": path}], **{"as": "kto", "filter": {"turns": {"gte": 4}}})
    assert pairs(world, dataset, "kind, assistant_message, is_desirable") == [
        ("kto", "better", True),
        ("kto", "a2", False),
    ]
    dataset = await imported(world, files=[{"path": path}], goldStarOnly=True, minRating=5)
    assert pairs(world, dataset, "assistant_message") == [("a1",)]
    dataset = await imported(world, files=[{"path": path}], filter={"lang": "fr"})
    assert (dataset["status"], dataset["error"]["code"]) == ("failed", "no_pairs")


async def test_what_cannot_be_imported_is_refused_before_a_row_exists(world: World) -> None:
    mine = await upload(world, "a.jsonl", b"{}")
    theirs = f"{uuid4()}/x/a.jsonl"
    rows = [{"question": "q", "answer": "a"}]
    huge = await upload(world, "huge.jsonl", b"{}")
    grow = "update storage.objects set metadata = metadata || '{\"size\": 1100000000}' where name = %s"
    world.rows(grow, huge)
    before = world.rows("select count(*) from public.training_datasets")
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({}, 422, "invalid_request"),
        ({"files": []}, 422, "invalid_request"),
        ({"rows": []}, 422, "invalid_request"),
        ({"rows": rows, "files": [{"path": mine}]}, 422, "invalid_request"),
        ({"files": [{"path": mine}, {"path": mine}]}, 422, "invalid_request"),
        ({"files": [{"path": f"{world.project}/{n}/a"} for n in range(1001)]}, 422, "invalid_request"),
        ({"files": [{"path": theirs}]}, 422, "invalid_request"),
        ({"files": [{"path": f"{world.project}/../{theirs}"}]}, 422, "invalid_request"),
        ({"files": [{"path": f"{world.project}//a"}]}, 422, "invalid_request"),
        ({"files": [{"path": f"{world.project}/a\0b"}]}, 422, "invalid_request"),
        ({"files": [{"path": mine, "name": "../../a"}]}, 422, "invalid_request"),
        ({"files": [{"path": mine, "name": "é" * 101}]}, 422, "invalid_request"),
        ({"files": [{"path": f"{world.project}/none.jsonl"}]}, 404, "file_not_found"),
        ({"files": [{"path": huge}]}, 413, "import_too_large"),
        ({"rows": rows, "goldStarOnly": True}, 422, "invalid_request"),
        ({"conversations": rows, "as": "dpo"}, 422, "invalid_request"),
        ({"conversations": rows, "filter": {"a": {"gt": 1}}}, 422, "unknown_field"),
        ({"rows": rows, "mapping": {"question": "a\0"}}, 422, "invalid_request"),
        ({"rows": rows, "datasetName": " "}, 422, "invalid_request"),
        ({"rows": rows, "datasetId": str(uuid4())}, 422, "invalid_request"),
        ({"rows": rows, "documents": 1}, 422, "unknown_field"),
        ({"rows": rows, "projectId": str(uuid4())}, 404, "project_not_found"),
        ({"rows": rows, "token": world.viewer_token}, 403, "forbidden"),
        ({"rows": rows, "token": world.stranger_token}, 404, "project_not_found"),
        ({"rows": [{"question": "q", "answer": "a" * 1_100_000}]}, 413, "payload_too_large"),
    ]
    for body, status, code in cases:
        answer = await ask(world, **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), str(body)[:200]
    assert world.rows("select count(*) from public.training_datasets") == before


async def test_a_call_that_is_made_twice_makes_one_dataset(world: World) -> None:
    body = {"rows": [{"question": "q", "answer": "a"}], "idempotencyKey": str(uuid4())}
    answers = await asyncio.gather(*(ask(world, **body) for _ in range(4)))
    assert len({answer.json()["datasetId"] for answer in answers}) == 1
    assert sorted(answer.json()["created"] for answer in answers) == [False, False, False, True]
    other = await ask(world, **body, skipBadRows=True)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
    dataset = answers[0].json()["datasetId"]
    await until(world, "training_datasets", dataset, "status", {"ready"})
    again = await world.call_as_service("import-dataset", {"datasetId": dataset})
    assert again.json()["status"] == "ready"
    assert world.rows("select count(*) from public.training_pairs where dataset_id = %s", dataset) == [(1,)]
    unknown = await world.call_as_service("import-dataset", {"datasetId": str(uuid4())})
    assert unknown.status_code == 404


async def test_a_file_that_is_none_of_rows_fails_its_own_dataset(world: World) -> None:
    good = await upload(world, "good.jsonl", jsonl([chat("q", "a")]))
    for name, content in (
        ("a.zip", b"PK\x03\x04" + b"x" * 99),
        ("empty.jsonl", b""),
        ("a.pdf", b"%PDF-1.7 \xff"),
    ):
        path = await upload(world, name, content)
        dataset = await imported(world, files=[{"path": good}, {"path": path}])
        assert (dataset["status"], dataset["pair_count"]) == ("failed", 0), name
        assert dataset["error"]["details"]["file"] == name
        assert pairs(world, dataset, "id") == []


# --- cut off, and taken up again ---


class Killed(BaseException):
    """What ends a call in the middle."""


class MortalDatabase(Database):
    """Dies at the first batch that it is given, before it is stored or after, in turn."""

    deaths = 0

    async def call(self, function: str, **parameters: Any) -> Any:
        if function != "save_import_batch":
            return await super().call(function, **parameters)
        self.deaths += 1
        if self.deaths % 2:
            raise Killed
        await super().call(function, **parameters)
        raise Killed


@contextmanager
def unwatched(world: World) -> Iterator[None]:
    """No event and no schedule speaks of an import."""
    world.rows("alter table public.training_datasets disable trigger call_import_dataset")
    world.rows("update private.schedules set name = 'paused' where name = 'poll-training'")
    try:
        yield
    finally:
        world.rows("update private.schedules set name = 'poll-training' where name = 'paused'")
        world.rows("alter table public.training_datasets enable trigger call_import_dataset")


@asynccontextmanager
async def service(world: World, kind: type[Database] = Database) -> AsyncIterator[tuple[Database, Storage]]:
    key = world.stack.secret_key
    async with http_client() as http:
        connection: Any = {"api_key": key, "bearer": key, "http": http}
        yield kind(world.stack.url, **connection), Storage(world.stack.url, **connection)


async def no_validation(_: dict[str, Any], pages: AsyncIterator[Any] | None) -> dict[str, Any]:
    return {"pages": None if pages is None else [len(page) async for page in pages]}


def end_lease(world: World, dataset: UUID) -> None:
    world.rows(
        "update private.dataset_imports set lease_expires_at = now() - interval '1 second'"
        " where dataset_id = %s",
        dataset,
    )


async def test_an_import_that_is_killed_at_every_batch_loses_and_doubles_nothing(world: World) -> None:
    first = [chat(f"Question {n}?", f"Answer {n}.") for n in range(150)]
    second = [chat(f"Question {n}?", f"Answer {n}.", n=n) for n in range(150, 200)]
    first[7]["messages"].reverse()
    paths = [
        await upload(world, f"{name}.jsonl", jsonl(rows)) for name, rows in (("a", first), ("b", second))
    ]
    with unwatched(world):
        answer = await ask(world, files=[{"path": path} for path in paths], skipBadRows=True)
        dataset = UUID(answer.json()["datasetId"])
        async with service(world, MortalDatabase) as (db, storage):
            for _ in range(6):  # three batches, each cut off before it is stored and after
                end_lease(world, dataset)
                with pytest.raises(Killed):
                    await work_on_import(db, storage, dataset, no_validation, batch_rows=100)
                if world.rows(
                    "select files_done from private.dataset_imports where dataset_id = %s", dataset
                ) == [(2,)]:
                    break
            end_lease(world, dataset)
        async with service(world) as (db, storage):
            row = await work_on_import(db, storage, dataset, no_validation)
    assert (row["status"], row["pair_count"], row["rows_done"]) == ("ready", 199, 200)
    found = pairs(world, row, "ordinal, user_message, source_name")
    expected = [n for n in range(200) if n != 7]
    assert [ordinal for ordinal, _, _ in found] == list(range(1, 200))
    assert [question for _, question, _ in found] == [f"Question {n}?" for n in expected]
    assert [file["pairs"] for file in row["import_report"]["files"]] == [149, 50]
    assert row["import_report"]["totals"]["badRows"] == 1


async def test_a_batch_that_is_sent_twice_or_without_its_lease_is_stored_once(world: World) -> None:
    with unwatched(world):
        dataset = (await ask(world, rows=[{"question": "q", "answer": "a"}])).json()["datasetId"]
        async with service(world) as (db, _):
            claimed = await db.call("claim_import", dataset_id=dataset, lease_seconds=60)
            assert await db.call("claim_import", dataset_id=dataset, lease_seconds=60) is None
            batch = {
                "dataset_id": dataset,
                "files_done": 0,
                "items_done": 0,
                "pairs": [{"id": str(uuid4()), "kind": "sft", "user_message": "q", "assistant_message": "a"}],
                "state": {"items": 1},
                "rows_done": 1,
                "bytes_done": 1,
                "report": None,
            }
            stored = [
                await db.call("save_import_batch", **batch, lease_token=token)
                for token in (str(uuid4()), claimed["lease_token"], claimed["lease_token"])
            ]
    assert stored == [False, True, False]
    assert world.rows("select count(*) from public.training_pairs where dataset_id = %s", dataset) == [(1,)]


async def test_calls_at_once_share_nothing_and_a_call_without_time_hands_on(world: World) -> None:
    path = await upload(world, "a.jsonl", jsonl([chat(f"Question {n}?", "Yes.") for n in range(500)]))
    with unwatched(world):
        dataset = UUID((await ask(world, files=[{"path": path}])).json()["datasetId"])
        async with service(world) as (db, storage):
            rows = await asyncio.gather(
                *(
                    work_on_import(db, storage, dataset, no_validation, budget_seconds=0, batch_rows=100)
                    for _ in range(2)
                )
            )
            assert {row["status"] for row in rows} == {"generating"}
            assert world.rows("select pair_count from public.training_datasets where id = %s", dataset) == [
                (100,)
            ]
    row = await until(
        world, "training_datasets", str(dataset), "status", {"ready"}
    )  # it had asked for a call
    assert (row["pair_count"], len(pairs(world, row, "id"))) == (500, 500)


async def test_a_file_that_was_replaced_or_is_too_hard_fails_with_the_reason(world: World) -> None:
    rows = jsonl([chat("q", "a")])
    cases = {
        "file_changed": "update storage.objects set updated_at = now() where name = %s",
        "file_too_hard": "update private.dataset_imports set attempts = 4 where files -> 0 ->> 'path' = %s",
    }
    for code, change in cases.items():
        path = await upload(world, "a.jsonl", rows)
        with unwatched(world):
            dataset = UUID((await ask(world, files=[{"path": path}])).json()["datasetId"])
            world.rows(change, path)
            async with service(world) as (db, storage):
                row = await work_on_import(db, storage, dataset, no_validation)
        assert (row["status"], row["error"]["code"], row["pair_count"]) == ("failed", code, 0)


async def test_the_death_of_a_reader_is_an_attempt(
    world: World, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(jsonl([chat("q", "a")] * 10))
    async with RowReader(ImportOptions(), listed_a_rule=1) as reader:
        reader._child.kill()
        with pytest.raises(ReaderDied, match="ended the program"):
            await anext(reader.read(file, state={}, is_refused=False))
    async with RowReader(ImportOptions(), listed_a_rule=1, silence_seconds=0.001) as reader:
        with pytest.raises(ReaderDied, match="took over"):
            await anext(reader.read(file, state={}, is_refused=False))
    monkeypatch.setattr("shared.imports.process.command", lambda module: ("/bin/true",))
    path = await upload(world, "a.jsonl", file.read_bytes())
    with unwatched(world):
        dataset = UUID((await ask(world, files=[{"path": path}])).json()["datasetId"])
        async with service(world) as (db, storage):
            row = await work_on_import(db, storage, dataset, no_validation)
        assert row["status"] == "generating"
        (state,) = world.rows(
            "select attempts, lease_token, lease_expires_at - now() > interval '5 seconds'"
            " from private.dataset_imports where dataset_id = %s",
            dataset,
        )
        assert state == (1, None, True)


async def test_the_schedule_takes_up_what_nobody_holds(world: World) -> None:
    with unwatched(world):
        answer = await ask(world, rows=[{"question": "q", "answer": "a"}])
    dataset = answer.json()["datasetId"]
    world.rows(
        "alter table public.training_datasets disable trigger touch_updated_at;"
        "update public.training_datasets set updated_at = now() - interval '1 minute'"
        f" where id = '{dataset}';"
        "alter table public.training_datasets enable trigger touch_updated_at"
    )
    row = await until(world, "training_datasets", dataset, "status", {"ready", "failed"})
    assert (row["status"], row["error"], row["pair_count"]) == ("ready", None, 1)


async def test_viewers_read_uploads_and_write_none(world: World) -> None:
    path = await upload(world, "a.jsonl", b"{}")
    key = world.stack.publishable_key
    for token, may_read in ((world.viewer_token, True), (world.stranger_token, False)):
        headers = {"apikey": key, "authorization": f"Bearer {token}"}
        read = await world.http.get(f"/storage/v1/object/uploads/{path}", headers=headers)
        assert (read.status_code == 200) == may_read
        written = await world.http.post(f"/storage/v1/object/uploads/{path}x", content=b"x", headers=headers)
        assert written.status_code >= 400
