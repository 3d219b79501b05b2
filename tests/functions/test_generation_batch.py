"""Pairs by a vendor's batches: submitted once whatever is lost, half the price, no answer counted twice."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from devstack.up import Stack
from shared.db import Database, Row
from shared.errors import ServiceUnavailable
from shared.generation.batch import advance_batch
from shared.generation.choice import Generation, generator_of
from shared.generation.language_model import LanguageModelGenerator
from shared.generation.source import Generator
from shared.generation.work import work_on_dataset
from shared.llm.anthropic import Anthropic
from shared.llm.base import ChatModel
from shared.llm.gemini import Gemini
from shared.llm.http_model import HttpModel
from shared.llm.openai_compatible import OpenAICompatible
from tests.fakes import anthropic, gemini
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.gemini import FakeGemini
from tests.fakes.http import Fault, busy
from tests.fakes.openai_compatible import FakeChatService, completion
from tests.functions.documents import HANDBOOK, until, upload
from tests.functions.generation import forget_answers, new_dataset, pairs_of, service, spent, truthful, work
from tests.functions.world import World, make_world, own_functions, undisturbed

CHUNKS = 4
Vendor = FakeAnthropic | FakeGemini | FakeChatService


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        await upload(made, "handbook.md", HANDBOOK)
        with undisturbed(made):  # the schedule would work on the datasets too
            yield made


@pytest.fixture(autouse=True)
def nothing_is_known(world: World) -> None:
    forget_answers(world)


@pytest.fixture(params=[FakeAnthropic, FakeGemini, FakeChatService])
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    if request.param is FakeAnthropic:
        made: Vendor = FakeAnthropic(reply=truthful)
    elif request.param is FakeGemini:
        made = FakeGemini(reply=lambda body: _truthful(body["contents"][0]["parts"][0]["text"]))
    else:
        made = FakeChatService(
            reply=lambda body: (200, completion(_truthful(body["messages"][1]["content"]))), batches=True
        )
    with made:
        yield made


def _truthful(question: str) -> str:
    return truthful({"messages": [{"content": question}]})


def client_of(vendor: Vendor) -> HttpModel:
    if isinstance(vendor, FakeAnthropic):
        return Anthropic(anthropic.MODEL, SecretStr(vendor.api_key), vendor.url)
    if isinstance(vendor, FakeGemini):
        return Gemini(gemini.MODEL, SecretStr(vendor.api_key), vendor.url)
    client = OpenAICompatible(vendor.base_url, "gpt-4.1-mini", SecretStr(vendor.api_key))
    client.vendor = "openai"  # so that its price is known
    return client


async def new_batch(db: Database, world: World, **columns: Any) -> Row:
    return await new_dataset(db, world, chunks=CHUNKS, generation={"batch": True}, **columns)


async def call(db: Database, dataset: Row, vendor: Vendor, *, late_seconds: float = 180) -> Row:
    """The row after what one call of generate-dataset does."""
    row = await db.find("training_datasets", id=dataset["id"])
    assert row is not None
    client = client_of(vendor)

    def around(asked: ChatModel) -> Generator:
        return LanguageModelGenerator(asked, "qa", None, b"the test's own")

    async def opened() -> Generator:
        return generator_of(
            client, Generation.model_validate(row["generation"]), around, "qa", kept=(db, row)
        )

    try:
        await advance_batch(db, row, client, around, lambda place: 2, late_seconds=late_seconds)
        return await work_on_dataset(db, row, opened)
    finally:
        await client.close()


async def call_at_once(db: Database, dataset: Row, vendor: Vendor) -> Row:
    """The row after what a call does whose dataset is in no batch (any more)."""
    row = await db.find("training_datasets", id=dataset["id"])
    assert row is not None
    generation = Generation.model_validate(row["generation"])
    assert not generation.batch

    async def opened() -> Generator:
        return generator_of(
            client_of(vendor),
            generation,
            lambda asked: LanguageModelGenerator(asked, "qa", None, b"the test's own"),
            "qa",
            kept=(db, row),
        )

    return await work_on_dataset(db, row, opened)


async def go_on_at_once(world: World, dataset: Row) -> None:
    """It is generating and has left its batches, with all of its chunks open."""
    body = {"action": "continue", "datasetId": dataset["id"], "batch": False, "maxCostUsd": "1"}
    went_on = await world.call("generate-dataset", body)
    assert (went_on.status_code, went_on.json()["status"]) == (202, "generating")
    # The stack's own function is called too, and has no key. When it has ended, the test works alone.
    row = await until(world, "training_datasets", dataset["id"], "status", {"failed"})
    assert row["error"]["code"] == "api_key_missing"
    world.rows("update public.dataset_chunks set status = 'pending' where dataset_id = %s", dataset["id"])
    world.rows(
        "update public.training_datasets set status = 'generating', chunks_failed = 0, error = null"
        " where id = %s",
        dataset["id"],
    )


async def stop(world: World, dataset: Row) -> None:
    asked = await world.call("generate-dataset", {"action": "stop", "datasetId": dataset["id"]})
    assert asked.status_code == 202


def end_batch_lease(world: World, dataset: Row) -> None:
    world.rows(
        "update public.generation_batches set lease_expires_at = now() where dataset_id = %s", dataset["id"]
    )


def end_wait(world: World, dataset: Row) -> None:
    """As if the vendor may be asked again."""
    world.rows(
        "update public.generation_batches set next_look_at = now() where dataset_id = %s", dataset["id"]
    )


def began_to_wait(world: World, dataset: Row, seconds: int) -> None:
    """As if it had waited for so long, and may be asked again."""
    world.rows(
        "update public.generation_batches set next_look_at = now(),"
        " waiting_since = now() - make_interval(secs => %s) where dataset_id = %s",
        seconds,
        dataset["id"],
    )


def waiting(world: World, dataset: Row) -> tuple[str | None, float, str | None]:
    """Why its newest batch waits and for how many seconds, and what the dataset says."""
    ((why, seconds, warning),) = world.rows(
        "select b.last_error ->> 'code', extract(epoch from b.next_look_at - now())::float8,"
        " d.warning ->> 'message' from public.generation_batches b"
        " join public.training_datasets d on d.id = b.dataset_id where d.id = %s"
        " order by b.intended_at desc limit 1",
        dataset["id"],
    )
    return why, seconds, warning


async def test_a_batch_gives_the_same_pairs_at_half_the_price(world: World, vendor: Vendor) -> None:
    async with service(world) as db:
        dataset = await new_batch(db, world)
        for _ in range(3):
            assert (await call(db, dataset, vendor))["status"] == "generating"
        assert (vendor.calls["submit"], vendor.calls["poll"]) == (1, 2)
        vendor.end_batches()
        row = await call(db, dataset, vendor)
        assert (row["status"], row["chunks_done"]) == ("ready", CHUNKS)
        assert vendor.calls["generate"] == 0
        made, bill = pairs_of(world, dataset["id"]), spent(world, dataset["id"])
        forget_answers(world)
        if isinstance(vendor, FakeAnthropic):
            live = await new_dataset(db, world, chunks=CHUNKS)
            await work(db, live, vendor)
            assert pairs_of(world, live["id"]) == made
            assert spent(world, live["id"]) == (*bill[:2], bill[2] * 2)
    assert len(made) == 2 * CHUNKS
    usual = client_of(vendor).cost_usd(*bill[:2])
    assert usual
    assert abs(bill[2] - usual / 2) < Decimal("0.00001")  # each answer's is rounded


@pytest.mark.parametrize(
    "lost", [Fault(hang=True, executed=True), Fault(reset=True, executed=True), Fault(503, executed=True)]
)
async def test_a_submission_whose_answer_is_lost_is_found_and_not_repeated(
    world: World, vendor: Vendor, lost: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.llm.http_model.TIMEOUT_SECONDS", 1)
    async with service(world) as db:
        dataset = await new_batch(db, world)
        vendor.disturb("submit", lost)
        await call(db, dataset, vendor)
        end_wait(world, dataset)
        await call(db, dataset, vendor)
        vendor.end_batches()
        row = await call(db, dataset, vendor)
    assert (row["status"], row["chunks_done"]) == ("ready", CHUNKS)
    assert vendor.calls["submit"] == len(vendor.batches) == 1


async def test_a_submission_that_never_arrived_is_repeated_when_it_cannot_appear_any_more(
    world: World, vendor: Vendor
) -> None:
    async with service(world) as db:
        dataset = await new_batch(db, world)
        vendor.disturb("submit", Fault(503))
        for _ in range(3):
            await call(db, dataset, vendor)
            end_wait(world, dataset)
        assert (vendor.calls["submit"], len(vendor.batches)) == (1, 0)
        await call(db, dataset, vendor, late_seconds=0)
        vendor.end_batches()
        row = await call(db, dataset, vendor)
    assert (row["status"], vendor.calls["submit"], len(vendor.batches)) == ("ready", 2, 1)


async def test_a_batch_that_was_turned_away_waits_as_long_as_it_was_told_and_says_why(
    world: World, vendor: Vendor
) -> None:
    async with service(world) as db:
        dataset = await new_batch(db, world)
        vendor.disturb("submit", busy(5000))
        for _ in range(2):
            row = await call(db, dataset, vendor)
        assert (vendor.calls["submit"], row["status"]) == (1, "generating")
        why, seconds, warning = waiting(world, dataset)
        assert why == "model_busy"
        assert 4900 < seconds < 5000 * 1.1
        assert warning is not None
        assert warning.startswith("Its batch waits: ")
        end_wait(world, dataset)
        await call(db, dataset, vendor)
        assert (vendor.calls["submit"], len(vendor.batches), vendor.calls["list"]) == (2, 1, 0)
        why, seconds, warning = waiting(world, dataset)
        assert (why, warning) == (None, None)
        assert seconds <= 0
        if isinstance(vendor, FakeGemini):
            assert len(vendor.files) == 1, "a file that no batch reads is taken away"
        vendor.disturb("poll", Fault(503))
        await call(db, dataset, vendor)
        assert waiting(world, dataset)[0] == "model_unavailable"
        vendor.end_batches()
        end_wait(world, dataset)
        row = await call(db, dataset, vendor)
    assert (row["status"], row["chunks_done"], row["warning"]) == ("ready", CHUNKS, None)
    assert waiting(world, dataset)[0] is None


@pytest.mark.parametrize(
    ("waited_seconds", "asked", "least", "most"),
    [(0, None, 30, 33), (0, 1, 30, 33), (1000, None, 1000, 1105), (50_000, 7, 3600, 3960),
     (50_000, 9e9, 86_400, 95_040)],
)  # fmt: skip
async def test_waits_double_and_none_is_longer_than_a_day(
    world: World, waited_seconds: int, asked: float | None, least: float, most: float
) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_batch(db, world)
            vendor.disturb("submit", busy(1))
            await call(db, dataset, vendor)
            began_to_wait(world, dataset, waited_seconds)
            vendor.disturb("submit", Fault(429) if asked is None else busy(asked))
            await call(db, dataset, vendor)
    seconds = waiting(world, dataset)[1]
    assert least - 5 < seconds < most
    assert vendor.calls["submit"] == 2


async def test_a_vendor_that_takes_no_batch_for_a_day_has_none(world: World, vendor: Vendor) -> None:
    async with service(world) as db:
        # The cap lets two chunks into the batch; the others do not wait for another day.
        dataset = await new_batch(db, world, max_cost_usd="0.02", chunk_cost_usd="0.008")
        vendor.disturb("submit", *[busy(60)] * 3)
        for seconds in (0, 86_300, 86_500):
            row = await db.find("training_datasets", id=dataset["id"])
            assert row is not None
            assert row["status"] == "generating"
            began_to_wait(world, dataset, seconds)
            row = await call(db, dataset, vendor)
        assert (vendor.calls["submit"], vendor.calls["list"], len(vendor.batches)) == (3, 0, 0)
        assert (row["status"], row["chunks_failed"], row["warning"]) == ("failed", CHUNKS, None)
        assert row["error"]["code"] == "batch_turned_away"
        assert "--no-batch" in row["error"]["message"]
        ends = world.rows(
            "select status, error ->> 'code', last_error from public.generation_batches"
            " where dataset_id = %s",
            dataset["id"],
        )
        assert ends == [("failed", "batch_turned_away", None)]
        await go_on_at_once(world, dataset)
        row = await call_at_once(db, dataset, vendor)
    assert (row["status"], row["chunks_done"], row["chunks_failed"]) == ("ready", CHUNKS, 0)
    assert (vendor.calls["submit"], vendor.calls["generate"]) == (3, CHUNKS)


async def test_a_batch_that_may_exist_is_looked_for_however_long_it_takes(world: World) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_batch(db, world)
            vendor.disturb("submit", Fault(503, executed=True))
            await call(db, dataset, vendor)
            began_to_wait(world, dataset, 1_000_000)
            vendor.disturb("list", busy(1))
            row = await call(db, dataset, vendor)
            assert row["status"] == "generating"
            end_wait(world, dataset)
            await call(db, dataset, vendor)
            vendor.end_batches()
            row = await call(db, dataset, vendor)
    assert (row["status"], row["chunks_done"], vendor.calls["submit"]) == ("ready", CHUNKS, 1)


async def test_what_waited_long_is_looked_for_as_if_it_were_new(world: World) -> None:
    """A submission that is lost after a long wait may appear late, like any other."""
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_batch(db, world)
            vendor.disturb("submit", busy(1), Fault(503))
            await call(db, dataset, vendor)
            world.rows(
                "update public.generation_batches set intended_at = now() - interval '5 hours',"
                " next_look_at = now() where dataset_id = %s",
                dataset["id"],
            )
            await call(db, dataset, vendor)
            end_wait(world, dataset)
            await call(db, dataset, vendor)
    assert (vendor.calls["submit"], vendor.calls["list"]) == (2, 1)


async def test_a_stop_ends_the_wait(world: World, vendor: Vendor) -> None:
    async with service(world) as db:
        turned_away, lost, submitted = [await new_batch(db, world) for _ in range(3)]
        for dataset, fault in ((turned_away, busy(9000)), (lost, Fault(503))):
            vendor.disturb("submit", fault)
            await call(db, dataset, vendor)
            await stop(world, dataset)
            row = await call(db, dataset, vendor, late_seconds=0)
            assert (row["status"], row["error"]["code"]) == ("failed", "generation_stopped")
        assert vendor.calls["submit"] == 2, "what is stopped is not submitted again"
        vendor.disturb("poll", busy(9000))
        for _ in range(2):
            await call(db, submitted, vendor)
        await stop(world, submitted)
        vendor.disturb("poll", busy(9000))
        for _ in range(2):
            await call(db, submitted, vendor)
        assert vendor.calls["poll"] == 2, "once it is known, the vendor is left alone again"
        end_wait(world, submitted)
        await call(db, submitted, vendor)
    assert vendor.calls["cancel"] == 1


async def test_lines_that_fail_or_are_missing_go_into_the_next_batch(world: World, vendor: Vendor) -> None:
    def spoil(place: int, line: bytes) -> bytes:
        return {0: b"{garbage", 1: b"", 2: line.replace(b"end_turn", b"x").replace(b"200", b"500", 1)}.get(
            place, line
        )

    async with service(world) as db:
        dataset = await new_batch(db, world)
        await call(db, dataset, vendor)
        vendor.end_batches(spoil)
        row = await call(db, dataset, vendor)
        done = row["chunks_done"]
        assert row["status"] == "generating"
        assert done in (1, 2)
        await call(db, dataset, vendor)
        vendor.end_batches()
        row = await call(db, dataset, vendor)
    assert (row["status"], row["chunks_done"], row["chunks_failed"]) == ("ready", CHUNKS, 0)
    assert len(vendor.batches) == 2
    answers = world.rows(
        "select count(*), count(distinct chunk_id), sum(cost_usd) from private.model_answers"
        " where dataset_id = %s",
        dataset["id"],
    )
    assert answers == [(CHUNKS, CHUNKS, spent(world, dataset["id"])[2])]


async def test_a_function_that_dies_while_it_keeps_the_answers_counts_none_twice(
    world: World, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    call_function = Database.call

    async def dies(self: Database, function: str, **parameters: Any) -> Any:
        if function == "keep_answer":
            kept.append(function)
        if len(kept) == CHUNKS - 1 or function == "end_generation_batch":
            raise ServiceUnavailable("away")
        return await call_function(self, function, **parameters)

    async with service(world) as db:
        dataset = await new_batch(db, world)
        await call(db, dataset, vendor)
        vendor.end_batches()
        with monkeypatch.context() as patched:
            patched.setattr(Database, "call", dies)
            with pytest.raises(ServiceUnavailable):
                await call(db, dataset, vendor)
        end_batch_lease(world, dataset)
        row = await call(db, dataset, vendor)
    assert (row["status"], row["chunks_done"]) == ("ready", CHUNKS)
    (answers,) = world.rows(
        "select count(*), sum(cost_usd) from private.model_answers where dataset_id = %s", dataset["id"]
    )
    assert answers == (CHUNKS, spent(world, dataset["id"])[2])


async def test_a_stopped_batch_is_cancelled_and_a_cap_makes_it_smaller(world: World, vendor: Vendor) -> None:
    async with service(world) as db:
        dataset = await new_batch(db, world)
        await call(db, dataset, vendor)
        stopped = await world.call("generate-dataset", {"action": "stop", "datasetId": dataset["id"]})
        assert stopped.json()["status"] == "generating"  # the vendor may have answered already
        await call(db, dataset, vendor)
        assert vendor.calls["cancel"] == 1
        vendor.end_batches()
        row = await call(db, dataset, vendor)
        assert (row["status"], row["error"]["code"]) == ("failed", "generation_stopped")
        capped = await new_batch(db, world, max_cost_usd="0.02", chunk_cost_usd="0.008")
        await call(db, capped, vendor)
        sizes = world.rows(
            "select request_count from public.generation_batches where dataset_id = %s", capped["id"]
        )
    assert sizes == [(2,)]


async def test_a_cancellation_that_is_refused_loses_no_answer(world: World, vendor: Vendor) -> None:
    async with service(world) as db:
        dataset = await new_batch(db, world)
        await call(db, dataset, vendor)
        await world.call("generate-dataset", {"action": "stop", "datasetId": dataset["id"]})
        vendor.disturb("cancel", Fault(400))
        await call(db, dataset, vendor)
        vendor.end_batches()
        row = await call(db, dataset, vendor)
    assert vendor.calls["cancel"] == 1
    assert (row["status"], row["chunks_done"]) == ("ready", CHUNKS)


async def test_a_batch_of_somebody_else_is_told_by_its_results(world: World) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_batch(db, world)
            vendor.disturb("submit", Fault(503, executed=True))
            await call(db, dataset, vendor)
            end_wait(world, dataset)
            theirs = {
                "model": anthropic.MODEL,
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "<s>\nx"}],
            }
            vendor.add_batch([{"custom_id": f"theirs-{i}", "params": theirs} for i in range(CHUNKS)])
            await call(db, dataset, vendor)  # takes the newer one for ours
            vendor.end_batches()
            await call(db, dataset, vendor)
            await call(db, dataset, vendor)
            row = await call(db, dataset, vendor)
    assert (row["status"], row["chunks_done"], vendor.calls["submit"]) == ("ready", CHUNKS, 1)


async def test_who_has_no_batches_says_so(world: World) -> None:
    body = {"projectId": world.project, "datasetName": "x", "generator": "extractive", "batch": True}
    refused = await world.call("generate-dataset", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "batch_not_offered")
    with FakeChatService() as vendor:
        async with service(world) as db:
            dataset = await new_batch(db, world)
            row = await call(db, dataset, vendor)
    assert (row["status"], row["error"]["code"]) == ("failed", "batch_not_offered")
    assert Decimal(str(row["cost_usd"])) == 0


async def test_who_has_no_batches_goes_on_without_at_the_full_price(world: World) -> None:
    with FakeChatService(
        reply=lambda body: (200, completion(_truthful(body["messages"][1]["content"])))
    ) as vendor:
        async with service(world) as db:
            dataset = await new_batch(db, world, max_cost_usd="1", chunk_cost_usd="0.008")
            assert (await call(db, dataset, vendor))["status"] == "failed"
            body = {"action": "continue", "datasetId": dataset["id"], "batch": True}
            assert (await world.call("generate-dataset", body)).status_code == 422
            await go_on_at_once(world, dataset)
            row = await call_at_once(db, dataset, vendor)
            assert (row["status"], row["chunks_done"], row["chunks_failed"]) == ("ready", CHUNKS, 0)
            assert Decimal(str(row["chunk_cost_usd"])) == Decimal("0.016")


async def test_the_estimate_of_a_batch_is_half_of_the_usual(world: World) -> None:
    async with own_functions(world, gemini_api_key=SecretStr("AIzaSyTest-0123456789")) as server:
        body = {"projectId": world.project, "datasetName": "x", "generator": "gemini", "action": "estimate"}
        usual, batch = [
            (await server.call("generate-dataset", body | {"batch": in_batch})).json()["estimate"]["costUsd"]
            for in_batch in (False, True)
        ]
    assert usual["high"] == pytest.approx(batch["high"] * 2, rel=0.02)  # marks in prompts are random
