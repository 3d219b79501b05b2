"""The life of a stack: one at a time, on free ports, watched, and gone without a trace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from devstack import supervisor
from devstack.install import PROJECT
from devstack.ports import free_port, is_free
from devstack.processes import process_identity
from devstack.up import ALREADY_RUNNING, FAILED, Stack, StackAlreadyRunning, StackFailed, serve

SOME = frozenset({"postgres", "front_door"})


def pid_of(stack: Stack, name: str) -> int:
    recorded: dict[str, dict[str, int]] = json.loads((stack.data_dir / "children.json").read_text())
    return recorded[name]["pid"]


def traces(data_dir: Path, project: Path) -> list[str]:
    """The processes and files that a stack has left."""
    found = [name for name in ("stack.lock", "stack.json", "children.json") if (data_dir / name).exists()]
    for process in psutil.process_iter():
        try:
            words, place = process.cmdline(), process.cwd()
        except psutil.Error:
            continue
        if process.pid != os.getpid() and (str(data_dir) in " ".join(words) or place == str(project)):
            found.append(" ".join(words))
    return found


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def stack(data_dir: Path, sample_project: Path, said: list[str]) -> Stack:
    return Stack(data_dir, free_port(), project=sample_project, children=SOME, say=said.append)


async def test_tells_how_to_reach_it_while_it_runs(stack: Stack, sample_project: Path) -> None:
    async with stack:
        info = json.loads((stack.data_dir / "stack.json").read_text())
        assert info == stack.info
        assert info["url"] == f"http://127.0.0.1:{info['ports']['front_door']}"
        assert all(port < 32768 for port in info["ports"].values())
        assert os.getsid(pid_of(stack, "front_door")) == pid_of(stack, "front_door")  # no Ctrl-C reaches it
        keys = (stack.publishable_key, stack.secret_key, stack.jwt_secret)
    assert traces(stack.data_dir, sample_project) == []
    assert is_free(info["ports"]["front_door"])
    async with stack:
        assert (stack.publishable_key, stack.secret_key, stack.jwt_secret) == keys


async def test_takes_the_next_port_when_the_usual_one_is_taken(
    data_dir: Path, sample_project: Path, said: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        async with Stack(data_dir, taken, project=sample_project, children=SOME, say=said.append) as stack:
            assert stack.ports["front_door"] > taken
            assert f"Port {taken} is taken; using {stack.ports['front_door']}" in said
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{stack.url}/health")).status_code == 200


async def test_a_second_one_on_the_same_data_is_told_of_the_first(stack: Stack, said: list[str]) -> None:
    second = Stack(stack.data_dir, free_port(), children=SOME)
    async with stack:
        with pytest.raises(StackAlreadyRunning, match="already running") as caught:
            await second.__aenter__()
        assert caught.value.url == stack.url
        assert await serve(second, said.append) == ALREADY_RUNNING
        assert stack.url in said[-1]
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{stack.url}/health")).status_code == 200


async def test_a_child_that_dies_is_named_and_restarted(stack: Stack, said: list[str]) -> None:
    async with stack:
        before = pid_of(stack, "front_door")
        os.kill(before, signal.SIGKILL)
        await until(lambda: any("front_door ended with signal SIGKILL" in line for line in said), seconds=1)
        assert any(line.rstrip().endswith("listening") for line in said)  # the end of its log
        await until(lambda: any("front_door is back" in line for line in said))
        assert pid_of(stack, "front_door") != before
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{stack.url}/health")).status_code == 200


async def test_a_child_that_dies_too_often_ends_the_stack(
    stack: Stack, said: list[str], monkeypatch: pytest.MonkeyPatch, sample_project: Path
) -> None:
    monkeypatch.setattr(supervisor, "MOST_DEATHS", 2)

    async def kill_twice() -> None:
        await until(lambda: (stack.data_dir / "stack.json").exists(), 20)
        first = pid_of(stack, "front_door")
        os.kill(first, signal.SIGKILL)
        await until(lambda: pid_of(stack, "front_door") != first)
        os.kill(pid_of(stack, "front_door"), signal.SIGTERM)

    killer = asyncio.create_task(kill_twice())
    assert await serve(stack, said.append) == FAILED
    await killer
    assert "front_door ended with" in said[-1]
    assert "too often" in said[-1]
    assert traces(stack.data_dir, sample_project) == []


async def test_the_death_of_postgres_ends_the_stack(stack: Stack, sample_project: Path) -> None:
    async with stack:
        os.kill(pid_of(stack, "postgres"), signal.SIGKILL)
        with pytest.raises(StackFailed, match="postgres ended with signal SIGKILL"):
            await asyncio.wait_for(stack.wait(), 2)
    assert traces(stack.data_dir, sample_project) == []


async def test_what_an_earlier_stack_left_is_ended_first(stack: Stack, said: list[str]) -> None:
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    entry = {"stop_signal": int(signal.SIGTERM)}
    children = {
        "realtime": {"pid": left.pid, "identity": process_identity(left.pid), **entry},
        "functions": {"pid": stranger.pid, "identity": "another start", **entry},
    }
    (stack.data_dir / "children.json").write_text(json.dumps(children))
    async with stack:
        assert left.poll() == -signal.SIGTERM
        assert stranger.poll() is None
        assert said[0] == "Ended realtime, which an earlier stack had left behind"
    stranger.kill()
    stranger.wait()


SCRIPT = """
import sys
from pathlib import Path
from devstack.up import Stack, run_until_signal, serve, tell
data_dir, project, port = sys.argv[1:]
some = {"postgres", "front_door"}
stack = Stack(Path(data_dir), int(port), project=Path(project), children=some, say=tell)
sys.exit(run_until_signal(serve(stack, tell)))
"""


@asynccontextmanager
async def supervisor_process(data_dir: Path, project: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A stack with a supervisor of its own, to be killed."""
    words = [sys.executable, "-c", SCRIPT, str(data_dir), str(project), str(free_port())]
    process = await asyncio.create_subprocess_exec(
        *words, cwd=PROJECT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # its pipe warns of itself otherwise


async def read_until(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdout is not None
    seen = ""
    async with asyncio.timeout(30):
        while text not in seen:
            line = await process.stdout.readline()
            assert line, seen
            seen += line.decode()


MOMENTS: list[tuple[str, float, list[signal.Signals]]] = [
    ("Starting Postgres", 0.0, [signal.SIGINT]),
    ("Starting Postgres", 0.2, [signal.SIGTERM]),
    ("Starting front_door", 0.0, [signal.SIGINT]),
    ("Starting front_door", 0.3, [signal.SIGTERM]),
    ("Starting front_door", 0.5, [signal.SIGINT, signal.SIGINT, signal.SIGTERM]),
    ("FineFlow is up", 0.0, [signal.SIGHUP]),
    ("FineFlow is up", 0.2, [signal.SIGINT]),
]


@pytest.mark.parametrize(("line", "later_seconds", "signals"), MOMENTS)
async def test_an_interruption_at_any_moment_leaves_nothing(
    data_dir: Path, sample_project: Path, line: str, later_seconds: float, signals: list[signal.Signals]
) -> None:
    async with supervisor_process(data_dir, sample_project) as process:
        await read_until(process, line)
        await asyncio.sleep(later_seconds)
        for number in signals:
            with suppress(ProcessLookupError):  # the first may have been enough
                process.send_signal(number)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(15):
            code = await process.wait()
    assert code == (0 if signals[0] == signal.SIGINT else 128 + signals[0])
    assert traces(data_dir, sample_project) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_a_killed_supervisor_leaves_no_process_and_can_be_followed(
    data_dir: Path, sample_project: Path, stack: Stack
) -> None:
    async with supervisor_process(data_dir, sample_project) as process:
        await read_until(process, "FineFlow is up")
        process.kill()
        await process.wait()
        files = ["stack.lock", "stack.json", "children.json"]
        await until(lambda: traces(data_dir, sample_project) == files, 5)
    began = time.monotonic()
    async with stack:
        assert time.monotonic() - began < 10


@pytest.fixture(autouse=True)
def nothing_is_left_running(data_dir: Path, sample_project: Path) -> Iterator[None]:
    yield
    assert [trace for trace in traces(data_dir, sample_project) if "." not in trace] == []
