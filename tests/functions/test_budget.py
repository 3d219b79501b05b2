"""estimate-training and start-training with money: budgets, caps, shutdown dates, and who may not train."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from devstack.up import Stack
from shared.errors import ProviderNotEligible
from shared.training.estimate import Estimate, at_vendor, on_gpu, on_this_machine
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import RunSpec
from tests.conftest import Figure
from tests.functions.server import functions_over
from tests.functions.world import World, make_dataset, make_world, undisturbed
from tests.shared.providers.scripted import ScriptedProvider

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Priced(ScriptedProvider):
    """Costs what a test says; None: nobody knows."""

    cost_usd: float | None = 1.0

    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        cost = self.cost_usd
        return replace(on_this_machine(spec, dataset), cost_usd=cost, cost_usd_low=cost, cost_usd_high=cost)


class Rented(ScriptedProvider):
    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        return on_gpu(spec, dataset, provider=self.name, gpu=spec.gpu)


class Vendor(ScriptedProvider):
    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        return at_vendor(spec, dataset, vendor=self.name)


class Closed(ScriptedProvider):
    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        raise ProviderNotEligible("No model of theirs can be tuned.", code="provider_has_no_fine_tuning")


PROVIDERS = {
    "priced": Priced("priced"),
    "unpriced": Priced("unpriced", cost_usd=None),
    "local": ScriptedProvider("local"),
    "modal": Rented("modal", methods=frozenset({"full", "lora"})),
    "openai": Vendor("openai", runs_our_trainer=False),
    "anthropic": Closed("anthropic", runs_our_trainer=False),
}


CLOCK = [NOW]  # the functions live at its last entry


@pytest.fixture(scope="module")
async def house(stack: Stack) -> AsyncIterator[World]:
    """The users, and functions that know these providers."""
    functions = functions_over(stack, PROVIDERS, now=lambda: CLOCK[-1])
    async with make_world(stack) as made, functions as (url, _):
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as http:
            with undisturbed(made):
                yield replace(made, http=http)


@pytest.fixture
async def world(house: World) -> AsyncIterator[World]:
    """A project of its own, with a dataset that is ready."""
    CLOCK[:] = [NOW]
    ((project,),) = house.rows(
        "insert into projects (owner_id, name) values (%s, 'p') returning id::text", house.user
    )
    house.rows(
        "insert into project_members (project_id, user_id, role) select %s, user_id, role"
        " from project_members where project_id = %s and role = 'viewer'",
        project,
        house.project,
    )
    yield replace(house, project=project, dataset=make_dataset(house.stack, project, pairs=12))
    house.rows(
        "update training_jobs set status = 'cancelled' where project_id = %s"
        " and status not in ('completed', 'failed', 'cancelled')",
        project,
    )


def set_budget(world: World, usd: float | None, enforcement: str) -> None:
    world.rows(
        "update projects set monthly_budget_usd = %s, budget_enforcement = %s where id = %s",
        usd,
        enforcement,
        world.project,
    )


def datasets(world: World, count: int) -> list[str]:
    """So many ready datasets with 10 pairs each."""
    rows = world.rows(
        "insert into training_datasets (project_id, name, status, pair_count)"
        " select %s, 'set ' || n, 'draft', 10 from generate_series(1, %s) n returning id",
        world.project,
        count,
    )
    ids = [row[0] for row in rows]
    world.rows(
        "insert into training_pairs (dataset_id, project_id, ordinal, user_message, assistant_message,"
        " token_count) select id, project_id, n, 'What is ' || n || '?', 'It is ' || n || '.', 12"
        " from training_datasets, generate_series(1, 10) n where id = any(%s)",
        ids,
    )
    world.rows("update training_datasets set status = 'ready' where id = any(%s)", ids)
    return [str(id) for id in ids]


async def start(world: World, dataset: str | None = None, **options: Any) -> httpx.Response:
    body = {"datasetId": dataset or world.dataset, "provider": "priced"} | options
    return await world.call("start-training", body)


def code(answer: httpx.Response) -> str:
    return str(answer.json().get("error", {}).get("code", answer.json().get("status")))


async def test_fifty_starts_at_once_against_a_budget_for_three_start_three(
    world: World, figure: Figure
) -> None:
    set_budget(world, 3, "block")
    answers = await asyncio.gather(*(start(world, dataset) for dataset in datasets(world, 50)))
    counts = Counter((answer.status_code, code(answer)) for answer in answers)
    figure(f"50 starts at once, 1 USD each, budget 3 USD: {dict(counts)}")
    assert counts == {(202, "queued"): 3, (409, "budget_exceeded"): 47}
    jobs = "select count(*), sum(reserved_usd) from training_jobs where project_id = %s"
    assert world.rows(jobs, world.project) == [(3, 3)]
    refused = next(answer for answer in answers if answer.status_code == 409).json()["error"]
    assert refused["details"]["neededUsd"] == 1
    assert refused["details"]["budget"]["remainingUsd"] == 0
    held = "select count(*) from training_datasets where project_id = %s and status = 'training'"
    assert world.rows(held, world.project) == [(3,)]


async def test_fifty_equal_calls_at_once_make_one_job_and_one_run(world: World, figure: Figure) -> None:
    set_budget(world, 1, "block")
    runs_before = PROVIDERS["priced"].created
    answers = await asyncio.gather(*(start(world, idempotencyKey="the same") for _ in range(50)))
    counts = Counter((answer.status_code, answer.json()["created"]) for answer in answers)
    runs = PROVIDERS["priced"].created - runs_before
    jobs = {answer.json()["jobId"] for answer in answers}
    figure(f"50 equal starts at once: {dict(counts)}, jobs {len(jobs)}, runs {runs}")
    assert counts == {(202, True): 1, (202, False): 49}
    assert world.rows("select count(*) from training_jobs where project_id = %s", world.project) == [(1,)]
    assert runs == 1


async def test_an_estimate_shows_how_the_budget_stands(world: World) -> None:
    set_budget(world, 1.5, "warn")
    await start(world)
    body = {"datasetId": (await world.new_dataset(pairs=12)), "provider": "priced"}
    budget = (await world.call("estimate-training", body, world.viewer_token)).json()["budget"]
    assert budget == {
        "monthUsd": 1.5,
        "enforcement": "warn",
        "spentUsd": 0,
        "reservedUsd": 1,
        "remainingUsd": 0.5,
        "projectedMonthUsd": 2,
        "wouldExceed": True,
    }
    capped = (await world.call("estimate-training", body | {"spendCapUsd": 0.5})).json()["budget"]
    assert (capped["wouldExceed"], capped["projectedMonthUsd"]) == (False, 1.5)
    unknown = (await world.call("estimate-training", body | {"provider": "unpriced"})).json()
    assert (unknown["costUsd"], unknown["budget"]["wouldExceed"]) == (None, None)
    started = await start(world, body["datasetId"])
    assert started.status_code == 202
    assert "over its budget" in started.json()["warnings"][0]


async def test_an_unknown_cost_is_blocked_without_a_cap(world: World) -> None:
    set_budget(world, 5, "block")
    refused = await start(world, provider="unpriced")
    assert (refused.status_code, code(refused)) == (409, "cost_unknown")
    assert (await start(world, provider="unpriced", spendCapUsd=5)).status_code == 202


async def test_a_run_on_a_gpu_keeps_the_gpu_and_the_price_it_was_estimated_with(world: World) -> None:
    options = {"provider": "modal", "baseModel": "Qwen/Qwen3-8B", "method": "lora", "spendCapUsd": 2}
    estimate = (await world.call("estimate-training", {"datasetId": world.dataset} | options)).json()
    assert estimate["gpu"] == "L4"
    assert estimate["costRangeUsd"]["low"] < estimate["costUsd"] < estimate["costRangeUsd"]["high"]
    assert (await start(world, **options)).status_code == 202
    ((gpu, rate, cap, reserved, estimated),) = world.rows(
        "select gpu, usd_per_second, spend_cap_usd, reserved_usd, estimated_cost_usd from training_jobs"
        " where project_id = %s",
        world.project,
    )
    assert (gpu, float(rate), cap) == ("L4", 0.000222, 2)
    assert float(reserved) == estimate["costRangeUsd"]["high"]
    assert float(estimated) == estimate["costUsd"]


async def test_a_model_that_was_shut_down_is_not_trained(world: World) -> None:
    refused = await start(world, provider="openai", baseModel="gpt-4.1-nano")
    assert (refused.status_code, code(refused)) == (422, "base_model_shut_down")
    error = refused.json()["error"]
    assert "2026-10-23" in error["message"]
    assert error["details"]["endsOn"] == "2026-10-23"
    assert error["details"]["alternative"]["provider"] == "modal"


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (datetime(2027, 1, 5, 17, 59, tzinfo=UTC), "queued"),
        (datetime(2027, 1, 5, 18, 0, tzinfo=UTC), "provider_closes_too_soon"),
        (datetime(2027, 1, 6, 0, 0, tzinfo=UTC), "provider_closed"),
        (datetime(2027, 1, 13, 18, 0, tzinfo=UTC), "base_model_shuts_down_too_soon"),
        (datetime(2027, 1, 14, 0, 0, tzinfo=UTC), "base_model_shut_down"),
    ],
)
async def test_the_last_day_decides(world: World, now: datetime, outcome: str) -> None:
    CLOCK.append(now)
    answer = await start(world, provider="openai", baseModel="gpt-4.1-mini-2025-04-14")
    assert code(answer) == outcome


async def test_a_cap_that_a_bill_by_the_token_would_pass_is_refused(world: World) -> None:
    options = {"provider": "openai", "baseModel": "gpt-4.1"}
    refused = await start(world, spendCapUsd=0.001, **options)
    assert (refused.status_code, code(refused)) == (422, "spend_cap_below_estimate")
    assert (await start(world, spendCapUsd=1, **options)).status_code == 202


async def test_a_provider_without_tuning_offers_open_weights(world: World) -> None:
    refused = await start(world, provider="anthropic", baseModel="claude-opus-4")
    assert (refused.status_code, code(refused)) == (403, "provider_has_no_fine_tuning")
    offer = refused.json()["error"]["details"]["alternative"]
    assert (offer["provider"], offer["baseModel"], offer["method"]) == ("modal", "Qwen/Qwen3-4B", "lora")
    assert offer["costRangeUsd"]["high"] > 0
    same = {name: offer[name] for name in ("provider", "baseModel", "method", "trainingConfig")}
    estimate = await world.call("estimate-training", {"datasetId": world.dataset} | same)
    assert estimate.json()["costUsd"] == offer["costUsd"]
    assert (await start(world, **same)).status_code == 202


@pytest.mark.parametrize(
    ("provider", "base_model", "meant"),
    [
        ("local", "gpt-4.1-mini", "openai"),
        ("modal", "claude-opus-4", "not public"),
        ("openai", "fineflow/tiny", "gpt-4.1-mini"),
        ("openai", "Qwen/Qwen3-4B", "modal"),
    ],
)
async def test_a_base_model_of_somebody_else_is_refused_with_what_was_meant(
    world: World, provider: str, base_model: str, meant: str
) -> None:
    body = {"datasetId": world.dataset, "provider": provider, "baseModel": base_model}
    for name in ("estimate-training", "start-training"):
        refused = await world.call(name, body)
        assert (refused.status_code, code(refused)) == (422, "base_model_misplaced")
        assert meant in refused.json()["error"]["message"]


async def test_a_stranger_learns_nothing_of_a_budget(world: World) -> None:
    body = {"datasetId": world.dataset, "provider": "priced"}
    answer = await world.call("estimate-training", body, world.stranger_token)
    assert (answer.status_code, code(answer)) == (404, "dataset_not_found")
