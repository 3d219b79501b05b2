"""Child processes: each in a session of its own, logged to a file, ended with its parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Account:
    """The user that a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """One program and all that it is given; nothing is inherited but what is named here."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(repr=False)  # holds secrets
    cwd: Path = Path("/")
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    pass_fds: tuple[int, ...] = ()


class Child:
    """A started command. Create it on the main thread: Linux ends children with the thread that made them."""

    def __init__(self, command: Command) -> None:
        """Starts it; its output is added to the log. Raises OSError when the program cannot be run."""
        self.command = command
        account = command.account
        with open(command.log, "ab") as log:
            self._process = subprocess.Popen(
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(command.env),
                cwd=command.cwd,
                pass_fds=command.pass_fds,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                preexec_fn=_end_with_parent(command.stop_signal),
            )
        self.pid = self._process.pid
        self.identity = process_identity(self.pid)

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal number when a signal ended it."""
        return self._process.poll()

    async def exited(self) -> int:
        """Waits for the end; the returncode. Whatever it left in its group has ended too."""
        while (code := self.returncode) is None:  # noqa: ASYNC110 - a process sets no Event
            await asyncio.sleep(POLL_SECONDS)
        kill_group(self.pid)
        return code

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Asks it to end, then kills its whole group. It has ended afterwards."""
        if self.returncode is not None:
            return
        self._process.send_signal(self.command.stop_signal)
        try:
            await asyncio.wait_for(self.exited(), grace_seconds)
        except TimeoutError:
            kill_group(self.pid)
            await self.exited()


def describe_exit(returncode: int) -> str:
    """`exit code 3` or `signal SIGKILL`."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def last_lines(log: Path, count: int = 5) -> list[str]:
    """The last non-empty lines of a log; none when it cannot be read."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def process_identity(pid: int) -> str | None:
    """What tells this process from a later one with the same pid; None when no such process runs."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        state, start_ticks = fields[0], fields[19]  # fields 3 and 22, counted from 1
        return None if state in "ZX" else start_ticks
    return _ps("lstart", pid)


def command_line(pid: int) -> str:
    """The words that a process was started with; empty when it is gone or not ours to read."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            return ""
    return _ps("command", pid) or ""


async def end_group(
    leader_pid: int,
    identity: str,
    stop_signal: signal.Signals = signal.SIGTERM,
    grace_seconds: float = GRACE_SECONDS,
) -> bool:
    """Ends a process group that is not our child, by force after the grace. False: it was gone already."""
    if process_identity(leader_pid) != identity:
        return False
    kill_group(leader_pid, stop_signal)
    deadline = time.monotonic() + grace_seconds
    while process_identity(leader_pid) == identity:
        if time.monotonic() > deadline:
            kill_group(leader_pid)
        await asyncio.sleep(POLL_SECONDS)
    return True


def kill_group(leader_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Signals a whole process group; silent when it is gone."""
    try:
        os.killpg(leader_pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a zombie
        return


def _end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Has Linux send the child `number` when its parent dies, even by SIGKILL. macOS has nothing like it;
    there the next start ends what it finds.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, where little is safe
    parent_pid = os.getpid()

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent_pid:
            os._exit(1)

    return arrange


def _ps(column: str, pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False
    )
    return answer.stdout.strip() or None
