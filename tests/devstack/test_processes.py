from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from devstack.ports import free_port, is_free, listen_from
from devstack.processes import Child, Command, describe_exit, last_lines, process_identity


def python(script: str, log: Path, **options: object) -> Command:
    argv = (sys.executable, "-c", script)
    return Command(name="child", argv=argv, log=log, env={"SECRET": "hush"}, **options)  # type: ignore[arg-type] # by name


async def test_a_child_gets_nothing_but_what_it_is_given(tmp_path: Path) -> None:
    script = "import os, sys; print(sorted(os.environ)); print(os.getsid(0) == os.getpid()); sys.exit(3)"
    child = Child(python(script, tmp_path / "log"))
    assert describe_exit(await child.exited()) == "exit code 3"
    environment, own_session = last_lines(tmp_path / "log")
    assert "SECRET" in environment
    assert "HOME" not in environment
    assert own_session == "True"
    assert "hush" not in repr(child.command)


async def test_a_child_that_refuses_to_end_is_killed_with_its_group(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    )
    child = Child(python(script, tmp_path / "log"))
    while not last_lines(tmp_path / "log"):
        await asyncio.sleep(0.01)
    grandchild = int(last_lines(tmp_path / "log")[0])
    await child.stop(grace_seconds=0.2)
    assert describe_exit(child.returncode or 0) == "signal SIGKILL"
    await asyncio.sleep(0.1)
    assert process_identity(grandchild) is None


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    assert process_identity(os.getpid()) == process_identity(os.getpid()) is not None
    assert process_identity(2**22 + 1) is None


async def test_an_ended_process_that_nobody_has_waited_for_does_not_count(tmp_path: Path) -> None:
    child = Child(python("", tmp_path / "log"))
    deadline = time.monotonic() + 10
    while process_identity(child.pid) is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert await child.exited() == 0


def test_signals_without_a_name_are_told_too() -> None:
    assert describe_exit(-int(signal.SIGTERM)) == "signal SIGTERM"
    assert describe_exit(-250) == "signal 250"


def test_a_held_port_cannot_be_taken() -> None:
    port = free_port()
    assert 15000 <= port < 32768
    with listen_from(port) as held, listen_from(port) as next_one:
        assert held.getsockname()[1] == port
        assert next_one.getsockname()[1] > port
        assert not is_free(port)
        with pytest.raises(OSError, match="are all taken"):
            listen_from(port, tries=1)
        with socket.create_connection(("127.0.0.1", port)):
            pass  # waits in the queue for the server that will inherit the socket
