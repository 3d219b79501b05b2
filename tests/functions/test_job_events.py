"""A job's life as a stream: whole, in order, resumable at every point, and closed in time."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.node_tools import node_binary
from devstack.up import Stack
from functions.job_events.handler import MOST_STREAMS, Seen, stream
from tests.conftest import Figure
from tests.functions.jobs import TO_TRAINING, move, new_job, row_of
from tests.functions.world import World, make_world, undisturbed

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        with undisturbed(made):
            yield made


@dataclass(frozen=True)
class Event:
    id: str
    type: str
    data: dict[str, Any]


def read(block: str) -> Event | None:
    """None: a comment, or a hint when to come back."""
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    return Event(fields["id"], fields["event"], json.loads(fields["data"])) if "data" in fields else None


class Reader:
    """Reads the events of one response."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._blocks = self._split()

    async def _split(self) -> AsyncIterator[str]:
        text = ""
        async for chunk in self.response.aiter_text():
            *blocks, text = (text + chunk).split("\n\n")
            for block in blocks:
                yield block

    async def next(self) -> Event:
        async with asyncio.timeout(10):
            async for block in self._blocks:
                if event := read(block):
                    return event
        raise AssertionError("the stream has ended")

    async def rest(self) -> list[Event]:
        async with asyncio.timeout(10):
            return [event async for block in self._blocks if (event := read(block))]


@asynccontextmanager
async def following(
    world: World, job: str, last: str | None = None, *, token: str | None = None
) -> AsyncIterator[Reader]:
    headers = {"authorization": f"Bearer {token or world.token}"}
    headers |= {"last-event-id": last} if last else {}
    address = f"/functions/v1/job-events?jobId={job}"
    async with world.http.stream("GET", address, headers=headers) as response:
        yield Reader(response)


async def ask(world: World, job: str, **more: str) -> httpx.Response:
    """A whole answer: for streams that end at once."""
    headers = {"authorization": f"Bearer {more.pop('token', world.token)}"}
    params = {"jobId": job, **more}
    return await world.http.get("/functions/v1/job-events", params=params, headers=headers)


async def test_a_life_passes_the_front_door_as_it_happens(world: World, figure: Figure) -> None:
    job = new_job(world)
    begun = time.monotonic()
    async with following(world, job) as reader:
        assert reader.response.headers["content-type"].startswith("text/event-stream")
        assert reader.response.headers["cache-control"] == "no-store"
        first_byte = time.monotonic() - begun
        await asyncio.to_thread(move, world, job, *TO_TRAINING)
        written = time.monotonic()
        started = await reader.next()
        took = time.monotonic() - written
        await asyncio.to_thread(move, world, job, progress_percent=40, current_step="Step 4 of 10")
        progress = await reader.next()
        await asyncio.to_thread(move, world, job, "completed")
        (completed,) = await reader.rest()
    figure(f"first byte through the front door: {first_byte:.3f} s; an event after its write: {took:.3f} s")
    assert first_byte < 1
    assert took < 2
    assert [event.type.removeprefix("finetune_job_") for event in (started, progress, completed)] == [
        "started", "progress", "completed",
    ]  # fmt: skip
    assert (progress.data["progressPercent"], progress.data["currentStep"]) == (40, "Step 4 of 10")
    assert completed.data["version"] == row_of(world, job)["version"]
    ends = await ask(world, job, lastEventId=completed.id)
    assert (ends.status_code, ends.content) == (204, b"")
    again = [event for block in (await ask(world, job)).text.split("\n\n")[:-1] if (event := read(block))]
    assert [event.type for event in again] == ["finetune_job_started", "finetune_job_completed"]


async def test_a_reader_who_comes_back_misses_nothing_and_hears_nothing_twice(world: World) -> None:
    job = new_job(world)
    move(world, job, *TO_TRAINING)
    heard: list[Event] = []
    for percent in (10, 20, 30):
        async with following(world, job, heard[-1].id if heard else None) as reader:
            heard.append(await reader.next())
        move(world, job, progress_percent=percent)  # while nobody listens
    move(world, job, "failed")
    async with following(world, job, heard[-1].id) as reader:
        heard += await reader.rest()
    assert [event.type.removeprefix("finetune_job_") for event in heard] == [
        "started", "progress", "progress", "failed",
    ]  # fmt: skip
    assert [event.data["progressPercent"] for event in heard] == [0, 10, 20, 30]
    assert len({event.id for event in heard}) == 4


def test_every_place_to_break_off_resumes_right(figure: Figure) -> None:
    """All lives of up to seven rows, cut after each event: told in full, once, and in order."""
    row = {
        "id": "j", "project_id": "p", "dataset_id": "d", "progress_percent": 0, "current_step": "",
        "model_id": None, "provider": "local", "base_model": "b", "model_name": "m",
        "cost_usd": None, "error": None,
    }  # fmt: skip
    states = [("queued", None), ("training", "t"), ("training", "t"), ("training", "t")]
    cuts = 0
    for end in ("completed", "failed", "cancelled"):
        for length in range(len(states) + 1):
            life = [*states[:length], (end, "t" if length > 1 else None)]
            rows = [
                row | {"status": status, "started_at": started, "version": version}
                for version, (status, started) in enumerate(life, start=1)
            ]
            whole = list(_told(rows))
            for first in range(len(rows)):  # the row where the first reader breaks off
                for kept in range(4):  # how many of that row's events arrived
                    seen = Seen()
                    heard = [event for earlier in rows[:first] for event in seen.news(earlier)]
                    heard += list(seen.news(rows[first]))[:kept]
                    last = read(heard[-1].strip()) if heard else None
                    second = Seen.from_id(last.id if last else None)
                    heard += [event for later in rows[first:] for event in second.news(later)]
                    cuts += 1
                    assert heard == whole, (life, first, kept)
    figure(f"{cuts} places to break off")


def _told(rows: list[dict[str, Any]]) -> list[str]:
    seen = Seen()
    return [event for row in rows for event in seen.news(row)]


@pytest.mark.parametrize(
    "foreign", ["", "x", "1", "1.3", "-1.1", "1.1 ", "1.1\n", "9" * 19 + ".1", "\u0661.1"]
)
def test_an_id_that_is_not_ours_begins_anew(foreign: str) -> None:
    assert Seen.from_id(foreign) == Seen()


async def test_who_may_follow(world: World) -> None:
    job = new_job(world)
    url = f"/functions/v1/job-events?jobId={job}"
    for answer, expected in (
        (await world.http.get(url), (401, "missing_token")),
        (await world.http.get(url, headers={"authorization": "Bearer x"}), (401, "invalid_token")),
        (await ask(world, job, token=world.stranger_token), (404, "job_not_found")),
        (await ask(world, NOWHERE), (404, "job_not_found")),
        (await ask(world, "x"), (422, "invalid_request")),
        (await ask(world, job, colour="red"), (422, "unknown_field")),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == expected
    move(world, job, "cancelled")
    asked = await world.call(
        "job-events", {"jobId": job}, token=world.viewer_token
    )  # as functions.invoke does
    assert "finetune_job_cancelled" in asked.text
    for body in (b"[]", b"{", b'"x"'):
        headers = {"authorization": f"Bearer {world.token}"}
        answer = await world.http.post(url, content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")


async def test_who_is_no_member_any_more_hears_no_more(world: World) -> None:
    job = new_job(world)
    move(world, job, *TO_TRAINING)
    async with following(world, job, token=world.viewer_token) as reader:
        await reader.next()
        gone = world.rows(
            "delete from project_members where project_id = %s and role = 'viewer' returning user_id",
            world.project,
        )
        move(world, job, progress_percent=99)
        assert await reader.rest() == []
    world.rows("insert into project_members values (%s, %s, 'viewer')", world.project, gone[0][0])


async def test_few_streams_at_once_and_a_closed_one_is_free_again(world: World, figure: Figure) -> None:
    job = new_job(world)
    readers = [following(world, job) for _ in range(MOST_STREAMS)]
    for reader in readers:
        assert (await reader.__aenter__()).response.status_code == 200
    answer = await ask(world, job)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_streams")
    assert (await ask(world, job, token=world.viewer_token, lastEventId="x" * 99)).status_code == 422
    await readers.pop().__aexit__(None, None, None)
    begun = time.monotonic()
    while True:
        async with following(world, job) as reader:
            if reader.response.status_code == 200:
                break
        assert time.monotonic() - begun < 5
        await asyncio.sleep(0.05)
    figure(f"free again after {time.monotonic() - begun:.3f} s")
    for reader in readers:
        await reader.__aexit__(None, None, None)
    move(world, job, "cancelled")


async def test_silence_is_broken_and_time_is_up() -> None:
    looks = 0

    async def look() -> dict[str, Any] | None:
        nonlocal looks
        looks += 1
        return {"status": "queued", "started_at": None, "version": 1}

    begun = time.monotonic()
    lines = [
        line
        async for line in stream(look, Seen(), look_seconds=0.01, heartbeat_seconds=0.1, stream_seconds=0.55)
    ]
    assert 0.5 < time.monotonic() - begun < 2
    assert lines[0] == "retry: 2000\n\n"
    assert 3 <= len(lines) - 1 <= 5
    assert set(lines[1:]) == {": still here\n\n"}
    assert looks > 10


async def test_the_reader_of_the_documents_runs(world: World) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "webhooks.md").read_text(), re.DOTALL)
    job = new_job(world)
    move(world, job, *TO_TRAINING)
    arguments = ", ".join(map(json.dumps, (world.stack.url, world.token, job)))
    program = f"{code}\nawait follow({arguments}, (type, data) => console.log(type, data.progressPercent));"
    process = await asyncio.create_subprocess_exec(
        node_binary(), "--input-type=module", "--eval", program,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    lines = [(await asyncio.wait_for(process.stdout.readline(), 15)).decode().strip()]
    move(world, job, progress_percent=50, current_step="half: ½ é 漢字")
    lines.append((await asyncio.wait_for(process.stdout.readline(), 15)).decode().strip())
    move(world, job, "completed")
    output, _ = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 0, output
    assert [*lines, *output.decode().strip().splitlines()] == [
        "finetune_job_started 0", "finetune_job_progress 50", "finetune_job_completed 50",
    ]  # fmt: skip
