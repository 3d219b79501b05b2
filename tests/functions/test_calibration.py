"""Runs of this machine make its estimates narrower: a real run is compared, and three are believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from devstack.up import Stack
from tests.functions.jobs import move, new_job
from tests.functions.world import World, make_world, undisturbed

SECONDS = 90


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


async def estimate(world: World, **options: Any) -> dict[str, Any]:
    answer = await world.call("estimate-training", {"datasetId": world.dataset, **options})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_run_here_is_compared_with_its_estimate(world: World) -> None:
    body = {"datasetId": world.dataset, "trainingConfig": {"epochs": 1}}
    started = await world.call("start-training", body)
    assert started.status_code == 202, started.text
    job = started.json()["jobId"]
    ((expected, gpu),) = world.rows(
        "select expected_seconds, gpu from estimate_calibrations where job_id = %s", job
    )
    assert (expected > 0, gpu) == (True, "cpu")
    async with asyncio.timeout(SECONDS):
        while world.rows("select status from training_jobs where id = %s", job) != [("completed",)]:
            await asyncio.sleep(0.5)
    ((ratio, memory, observed),) = world.rows(
        "select duration_ratio, memory_ratio, observed_at from estimate_calibrations where job_id = %s", job
    )
    assert ratio > 0
    assert memory is None, "memory is told on GPUs only"
    assert observed is not None


async def test_three_runs_are_believed(world: World) -> None:
    with undisturbed(world):
        world.rows("delete from estimate_calibrations")  # other tests of this stack have had runs
        before = await estimate(world, method="lora")
        remember(world, runs=2)
        assert (await estimate(world, method="lora"))["durationSeconds"] == before["durationSeconds"]
        remember(world, runs=1)
        after = await estimate(world, method="lora")
    assert "Calibrated on this machine: duration by 3 runs (x 1.00)." in after["notes"]
    ranges = [found["durationSeconds"] for found in (after, before)]
    narrow, wide = (seconds["high"] / seconds["low"] for seconds in ranges)
    assert narrow == pytest.approx(1.1**2)
    assert narrow < wide


def remember(world: World, *, runs: int) -> None:
    """So many completed runs of lora on the tiny model here, which took as long as was expected."""
    for _ in range(runs):
        job = new_job(world)
        move(world, job, "cancelled")
        world.rows(
            "insert into estimate_calibrations (job_id, project_id, provider, gpu, method, size_class,"
            " expected_seconds, duration_ratio, observed_at)"
            " values (%s, %s, 'local', 'cpu', 'lora', 19, 10, 1.0, now())",
            job, world.project,
        )  # fmt: skip
