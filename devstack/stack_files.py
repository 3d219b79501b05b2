"""What a running stack leaves in its data directory: who holds it, how to reach it, what it started."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from devstack.processes import Child, end_group
from devstack.secrets_file import write_private


class StackAlreadyRunning(Exception):
    """Another supervisor holds this data directory. `url` is None while that one is still starting."""

    def __init__(self, data_dir: Path, url: str | None) -> None:
        where = f"at {url}" if url else "and is still starting"
        super().__init__(f"A stack is already running on {data_dir} {where}.")
        self.url = url


class DataDirLock:
    """Held by one supervisor at a time; the kernel gives it back however that one ends."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / "stack.lock"
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises StackAlreadyRunning."""
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last holder may have removed the file between our open and our lock.
                if os.fstat(fd).st_ino == os.stat(self._path).st_ino:
                    self._fd = fd
                    return
            except BlockingIOError:
                os.close(fd)
                raise StackAlreadyRunning(self._data_dir, self._url_of_holder()) from None
            except FileNotFoundError:
                pass
            os.close(fd)

    def release(self) -> None:
        """The file is gone. Does nothing when the lock is not held."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def _url_of_holder(self) -> str | None:
        info = read_json(self._data_dir / "stack.json")
        return info["url"] if info else None


class ChildRecord:
    """`children.json`: the processes of this stack, for the start after a supervisor that was killed."""

    def __init__(self, data_dir: Path) -> None:
        self._file = data_dir / "children.json"
        self._children: dict[str, dict[str, Any]] = {}

    def add(self, child: Child) -> None:
        """The child is written down, in place of an earlier one of its name."""
        self._children[child.name] = {
            "pid": child.pid,
            "identity": child.identity,
            "stop_signal": int(child.command.stop_signal),
        }
        write_private(self._file, json.dumps(self._children))

    def clear(self) -> None:
        self._children.clear()
        self._file.unlink(missing_ok=True)

    async def end_leftovers(self) -> list[str]:
        """None of the recorded processes runs any more; the names of those that did."""
        recorded = read_json(self._file) or {}

        async def end(name: str, entry: dict[str, Any]) -> str | None:
            stop_signal = signal.Signals(entry["stop_signal"])
            ended = await end_group(entry["pid"], entry["identity"], stop_signal)
            return name if ended else None

        ended = await asyncio.gather(*(end(*item) for item in recorded.items()))
        self._file.unlink(missing_ok=True)
        return [name for name in ended if name]


def read_json(file: Path) -> dict[str, Any] | None:
    """The object in a file; None when there is none, or half of one."""
    with suppress(OSError, ValueError):
        content = json.loads(file.read_text())
        return content if isinstance(content, dict) else None
    return None


def keep_one_old(log: Path) -> None:
    """The log is empty for a new run; the one before lies beside it as `<name>.1`."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))
