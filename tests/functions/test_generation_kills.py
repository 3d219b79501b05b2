"""A worker that dies at any point between two effects: the pairs are those of an undisturbed run, and what
was spent is counted once."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from devstack.up import Stack
from shared.db import Database
from shared.llm.base import Completion, JsonSchema, Turn
from shared.llm.http_model import HttpModel
from tests.conftest import Figure
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.http import Fault
from tests.functions.documents import HANDBOOK, upload
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
from tests.functions.world import World, make_world, undisturbed

CHUNKS = 3


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        await upload(made, "handbook.md", HANDBOOK)
        with undisturbed(made):  # the schedule would work on the datasets too
            yield made


class Killed(BaseException):
    """Nothing that the worker does afterwards has an effect."""


class Doom:
    """Kills the worker before or after its n-th effect. Everything outside it is an effect: what it asks of
    Postgres and what it asks of the model."""

    def __init__(self) -> None:
        self.lift()

    def lift(self) -> None:
        self.fall(-1)

    def fall(self, at: int) -> None:
        """Even: before effect at / 2. Odd: after it. Negative: never."""
        self.at = at
        self.effects: list[str] = []
        self.is_dead = False

    def before(self, effect: str) -> None:
        if self.is_dead or 2 * len(self.effects) == self.at:
            self.is_dead = True
            raise Killed
        self.effects.append(effect)

    def after(self) -> None:
        if self.is_dead or 2 * len(self.effects) - 1 == self.at:
            self.is_dead = True
            raise Killed


@pytest.fixture
def doom(monkeypatch: pytest.MonkeyPatch) -> Doom:
    """Over whatever works from now on; at first for nobody."""
    doom = Doom()
    run, complete = Database.run, HttpModel.complete

    async def doomed_run(self: Database, query: Any) -> Any:
        doom.before(str(query.request.path))
        found = await run(self, query)
        doom.after()
        return found

    async def doomed_complete(
        self: HttpModel, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None
    ) -> Completion:
        doom.before("model")
        answer = await complete(self, turns, json_schema=json_schema)
        doom.after()
        return answer

    monkeypatch.setattr(Database, "run", doomed_run)
    monkeypatch.setattr(HttpModel, "complete", doomed_complete)
    return doom


async def test_killed_at_every_point_it_ends_with_the_same_pairs_and_the_same_bill(
    world: World, doom: Doom, figure: Figure
) -> None:
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            whole = await new_dataset(db, world, chunks=CHUNKS)
            doom.lift()
            await work(db, whole, vendor, at_once=1)
            effects = list(doom.effects)
            wanted, bill = pairs_of(world, whole["id"]), spent(world, whole["id"])
            assert vendor.calls["generate"] == effects.count("model") == CHUNKS
            assert len(wanted) == 2 * CHUNKS
            assert bill[2] > 0
            calls = calls_again = 0
            for at in range(2 * len(effects)):
                effect, is_after = effects[at // 2], at % 2 == 1
                point = f"killed {'after' if is_after else 'before'} {effect}, effect {at // 2}"
                doom.lift()
                forget_answers(world)
                dataset = await new_dataset(db, world, chunks=CHUNKS)
                vendor.calls.clear()
                doom.fall(at)
                with pytest.raises(Killed):
                    await work(db, dataset, vendor, at_once=1)
                doom.lift()
                end_leases(world, dataset["id"])
                ended = await work(db, dataset, vendor, at_once=1)
                assert ended["status"] == "ready", point
                assert pairs_of(world, dataset["id"]) == wanted, point
                assert spent(world, dataset["id"]) == bill, point
                # Only an answer that had arrived and was not kept yet is asked for again.
                is_lost = effect == "model" if is_after else effect.endswith("keep_answer")
                assert vendor.calls["generate"] == CHUNKS + is_lost, point
                calls += vendor.calls["generate"]
                calls_again += is_lost
    figure(
        f"{2 * len(effects)} deaths around {len(effects)} effects on {CHUNKS} chunks, each time the pairs"
        f" and the bill of an undisturbed run; {calls} calls, {calls_again} of them for an answer that had"
        " just arrived and was not kept yet"
    )


CHILD = """
import asyncio, json, os, sys
from shared.db import Database, http_client
from tests.functions.generation import work
from types import SimpleNamespace

async def main(url, key, dataset, vendor_url, vendor_key):
    async with http_client() as http:
        db = Database(url, api_key=key, bearer=key, http=http)
        vendor = SimpleNamespace(url=vendor_url, api_key=vendor_key)
        await work(db, json.loads(dataset), vendor, at_once=1)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_process_that_is_killed_at_every_chunk_loses_nothing(world: World, figure: Figure) -> None:
    forget_answers(world)
    with FakeAnthropic(reply=truthful) as vendor:
        async with service(world) as db:
            whole = await new_dataset(db, world, chunks=CHUNKS)
            await work(db, whole, vendor, at_once=1)
            wanted, bill = pairs_of(world, whole["id"]), spent(world, whole["id"])
            forget_answers(world)
            dataset = await new_dataset(db, world, chunks=CHUNKS)
            vendor.calls.clear()
            for kill in range(CHUNKS):
                # One chunk more than the last time is answered; the next call hangs, and there it dies.
                if kill:
                    vendor.disturb("generate", Fault())
                vendor.disturb("generate", Fault(hang=True))
                hung = vendor.calls["generate"] + (2 if kill else 1)
                arguments = [
                    world.stack.url, world.stack.secret_key, json.dumps(dataset), vendor.url, vendor.api_key
                ]  # fmt: skip
                child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, *arguments)
                async with asyncio.timeout(120):
                    while vendor.calls["generate"] < hung:
                        assert child.returncode is None
                        await asyncio.sleep(0.02)
                child.kill()
                await child.wait()
                end_leases(world, dataset["id"])
            ended = await work(db, dataset, vendor, at_once=1)
    assert ended["status"] == "ready"
    assert pairs_of(world, dataset["id"]) == wanted
    assert spent(world, dataset["id"]) == bill
    answered = vendor.calls["generate"] - CHUNKS
    assert answered == CHUNKS
    figure(f"{CHUNKS} processes killed: {CHUNKS} calls were hanging then, {answered} answered and paid once")
