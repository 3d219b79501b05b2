"""What generation costs, said before, counted once, held to a cap; and how it is stopped and goes on."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from devstack.up import Stack
from shared.llm.prices import inference_cost_usd
from tests.fakes.anthropic import MODEL, FakeAnthropic
from tests.fakes.http import Fault, busy
from tests.functions.documents import HANDBOOK, until, upload
from tests.functions.generation import (
    end_leases,
    forget_answers,
    new_dataset,
    pairs_of,
    service,
    spent,
    truthful,
    work,
)
from tests.functions.world import World, make_world, own_functions, undisturbed


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        await upload(made, "handbook.md", HANDBOOK)
        with undisturbed(made):  # the schedule would work on the datasets too
            yield made


@pytest.fixture(autouse=True)
def nothing_is_known(world: World) -> None:
    forget_answers(world)


def bill(calls: list[tuple[int, int]]) -> Decimal:
    costs = [inference_cost_usd(MODEL, *tokens, vendor="anthropic") for tokens in calls]
    return sum((cost for cost in costs if cost is not None), Decimal(0))


async def test_an_answer_is_paid_once_in_a_project_and_again_when_asked_to(world: World) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            first = await new_dataset(db, world)
            await work(db, first, vendor)
            assert vendor.calls["generate"] == 3
            second = await new_dataset(db, world)
            await work(db, second, vendor)
            assert vendor.calls["generate"] == 3
            fresh = await new_dataset(db, world, generation={"fresh": True})
            await work(db, fresh, vendor)
            assert vendor.calls["generate"] == 6
    answers = world.rows(
        "select prompt_tokens, completion_tokens from private.model_answers where dataset_id = %s",
        first["id"],
    )
    prompt, completion, usd = spent(world, first["id"])
    assert (prompt, completion) == tuple(map(sum, zip(*answers, strict=True)))
    assert usd == bill(answers) > 0
    assert spent(world, second["id"]) == (0, 0, 0)
    assert spent(world, fresh["id"]) == (prompt, completion, usd)
    assert pairs_of(world, second["id"]) == pairs_of(world, fresh["id"]) == pairs_of(world, first["id"])


async def test_an_answer_of_no_use_is_paid_for_and_another_one_asked(world: World) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_dataset(db, world, chunks=1)
            vendor.answer("I would rather not. \x00 \ud83d")
            row = await work(db, dataset, vendor)
            assert row["status"] == "generating"
            for _ in range(2):
                end_leases(world, dataset["id"])
                row = await work(db, dataset, vendor)
    assert (row["status"], row["pair_count"], vendor.calls["generate"]) == ("ready", 2, 2)
    assert len({str(body) for body in vendor.bodies}) == 2
    answers = world.rows(
        "select prompt_tokens, completion_tokens from private.model_answers where dataset_id = %s",
        dataset["id"],
    )
    assert len(answers) == 2
    assert spent(world, dataset["id"])[2] == bill(answers)


async def test_no_chunk_is_begun_that_could_pass_the_cap(world: World) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            plain = await new_dataset(db, world, chunks=1)
            await work(db, plain, vendor)
            one = spent(world, plain["id"])[2]
            cap = {"max_cost_usd": str(one * 3), "chunk_cost_usd": str(one * Decimal("1.3"))}
            dataset = await new_dataset(db, world, chunks=8, generation={"fresh": True}, **cap)
            vendor.disturb("generate", Fault(), Fault(delay_seconds=0.5))  # one is paid for, one in hand
            row = await work(db, dataset, vendor)
            assert row["status"] == "ready"
            assert row["warning"]["code"] == "spend_cap_reached"
            assert row["chunks_done"] == 2
            assert 0 < spent(world, dataset["id"])[2] <= one * 3
            tiny = await new_dataset(db, world, chunks=2, max_cost_usd="0.000001", chunk_cost_usd="0.001")
            row = await work(db, tiny, vendor)
    assert (row["status"], row["error"]["code"]) == ("failed", "spend_cap_reached")
    assert row["cost_usd"] == 0


async def test_a_chunk_that_was_turned_away_for_the_rate_is_never_given_up(world: World) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_dataset(db, world, chunks=2)
            for _ in range(7):
                vendor.disturb("generate", *[busy(3600)] * 2)
                row = await work(db, dataset, vendor)
                assert (row["status"], row["chunks_failed"]) == ("generating", 0)
                end_leases(world, dataset["id"])
            vendor.forget_faults()
            row = await work(db, dataset, vendor)
    assert (row["status"], row["chunks_done"]) == ("ready", 2)


async def test_a_vendor_without_money_is_asked_once_and_the_rest_can_go_on_later(world: World) -> None:
    broke = Fault(
        status=402, body={"error": {"type": "billing_error", "message": "Your balance is too low."}}
    )
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_dataset(db, world, chunks=5)
            vendor.disturb("generate", Fault(), broke)
            row = await work(db, dataset, vendor, at_once=1)
    assert (row["status"], row["chunks_done"], row["chunks_failed"]) == ("ready", 1, 4)
    assert vendor.calls["generate"] == 2
    assert row["warning"]["code"] == "chunks_failed"
    assert "balance" in row["warning"]["message"]


async def test_what_is_in_hand_when_it_is_stopped_is_kept(world: World) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_dataset(db, world, chunks=5)
            vendor.disturb("generate", Fault(), Fault(delay_seconds=0.5))
            working = asyncio.create_task(work(db, dataset, vendor, at_once=1))
            while vendor.calls["generate"] < 2:
                await asyncio.sleep(0.02)
            stopped = await world.call("generate-dataset", {"action": "stop", "datasetId": dataset["id"]})
            assert (stopped.status_code, stopped.json()["status"]) == (202, "generating")
            row = await working
    assert (row["status"], row["chunks_done"], vendor.calls["generate"]) == ("ready", 2, 2)
    assert row["warning"]["code"] == "generation_stopped"


async def test_an_editor_stops_it_and_lets_it_go_on(world: World) -> None:
    async def ask(action: str, token: str | None = None) -> tuple[int, Any]:
        answer = await world.call("generate-dataset", {"action": action, "datasetId": dataset["id"]}, token)
        return answer.status_code, answer.json()

    async with service(world) as db:
        dataset = await new_dataset(db, world, generation={"generator": "extractive", "model": None})
        for action in ("stop", "continue"):
            assert (await ask(action, world.viewer_token))[0] == 403
            assert (await ask(action, world.stranger_token))[0] == 404
        status, refused = await ask("continue")
        assert (status, refused["error"]["code"]) == (409, "dataset_not_ended")
        status, stopped = await ask("stop")
        assert (status, stopped["status"]) == (202, "failed")
        row = await db.find("training_datasets", id=dataset["id"])
        assert row is not None
        assert row["error"]["code"] == "generation_stopped"
        status, refused = await ask("stop")
        assert (status, refused["error"]["code"]) == (409, "dataset_not_generating")
        status, went_on = await ask("continue")
        assert (status, went_on["status"]) == (202, "generating")
        row = await until(world, "training_datasets", dataset["id"], "status", {"ready", "failed"})
        assert (row["status"], row["chunks_done"], row["error"], row["warning"]) == ("ready", 3, None, None)
        status, refused = await ask("continue")
        assert (status, refused["error"]["code"]) == (409, "nothing_to_continue")


async def test_a_withdrawn_document_leaves_no_answers_and_is_not_gone_on_with(world: World) -> None:
    (document,) = world.rows(
        "select id from public.documents where project_id = %s and name = 'handbook.md'", world.project
    )
    headers = {"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.token}"}

    async def change(function: str) -> None:
        asked = {"p_document_id": str(document[0])}
        answer = await world.http.post(f"/rest/v1/rpc/{function}", json=asked, headers=headers)
        assert answer.status_code == 200, answer.text

    kept = "select count(*) from private.model_answers where project_id = %s"
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            dataset = await new_dataset(db, world)
            vendor.disturb("generate", Fault(), *[Fault(status=400)] * 2)
            row = await work(db, dataset, vendor, at_once=1)
            assert (row["status"], row["chunks_done"], world.rows(kept, world.project)) == (
                "ready",
                1,
                [(1,)],
            )
            await change("withdraw_document")
            assert world.rows(kept, world.project) == [(0,)]
            body = {"action": "continue", "datasetId": dataset["id"]}
            refused = await world.call("generate-dataset", body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "nothing_to_continue")
            await change("restore_document")


async def test_what_it_will_cost_is_said_before(world: World) -> None:
    before = world.rows("select count(*) from public.training_datasets")
    async with own_functions(world, anthropic_api_key=SecretStr("sk-ant-0123456789")) as server:
        body = {"action": "estimate", "projectId": world.project, "generator": "anthropic"}
        answer = await server.call("generate-dataset", body)
        assert answer.status_code == 202, answer.text
        said = answer.json()
        assert (said["datasetId"], said["chunkCount"]) == (None, 10)
        assert "genai-prices" in said["estimate"]["priceSource"]
        cost, tokens = said["estimate"]["costUsd"], said["estimate"]["promptTokens"]
        assert 0 < cost["low"] < cost["high"] < 0.1
        with FakeAnthropic(reply=truthful) as vendor:
            async with service(world) as db:
                dataset = await new_dataset(db, world, chunks=10)
                await work(db, dataset, vendor)
        assert cost["low"] / 3 < float(spent(world, dataset["id"])[2]) < cost["high"]
        assert 1000 < tokens["low"] < tokens["high"]
        free = await server.call("generate-dataset", {"action": "estimate", "projectId": world.project})
        assert free.json()["estimate"]["costUsd"] == {"low": 0, "high": 0}
        body |= {"model": "claude-nobody-knows", "datasetName": "x"}
        unknown = (await server.call("generate-dataset", body)).json()["estimate"]
        assert unknown["costUsd"] is None
        assert "No price is known" in unknown["notes"][0]
        refused = await server.call("generate-dataset", body | {"action": "create", "maxCostUsd": 1})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "cost_unknown")
    assert world.rows("select count(*) - 1 from public.training_datasets") == before
