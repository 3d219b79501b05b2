"""The line in which runs of this machine wait: a device has one run, others follow in the order of start.

`<data dir>/line/` holds a file for each run that waits, named by when it joined, and one for each device. A
process says that it is there by holding the lock of its file, so one that was killed counts for nothing, and
nobody has to tidy up after it. Only the standard library: whoever waits here should be small.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

_LOOK_SECONDS = 0.1
_TRIES, _LOOKED_AT_SECONDS = 3, 0.005  # who only looks whether it is held takes it for less than that
_WAITING = "[0-9]*-*"


class Device(NamedTuple):
    """What a run has to itself."""

    name: str  # as CUDA_VISIBLE_DEVICES names it, or "this": the only one, whatever it is
    lock: int  # the descriptor that holds it, for as long as it is open


def device_names() -> list[str]:
    """The CUDA devices that may be used, or else one place for whatever there is: an Apple GPU or the CPU."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
    else:
        names = [str(number) for number, _ in enumerate(filter(_is_nvidia, os.listdir("/dev")))]
    return names or ["this"]


def cuda_device_count() -> int:
    """How many runs on CUDA can go at once here, or how many GPUs one run can have."""
    names = device_names()
    return 0 if names == ["this"] else len(names)


def join(line: Path, run: str, place: str = "") -> tuple[Path, int]:
    """The file of this run in the line, and a descriptor that holds its lock. place: its name before."""
    line.mkdir(parents=True, exist_ok=True)
    entry = line / (place or f"{time.time_ns():020}-{run}")
    return entry, _locked(entry, fcntl.LOCK_EX)


def jobs_before(entry: Path) -> int:
    """Runs that wait and joined earlier, and those that have a device."""
    earlier = [other for other in entry.parent.glob(_WAITING) if other.name < entry.name]
    return sum(map(is_held, [*earlier, *entry.parent.glob("device-*")]))


def wait_for_devices(entry: Path, count: int = 1) -> list[Device]:
    """So many devices that are this run's own, or all that there are. Returns when those who joined earlier
    have theirs, or are gone."""
    mine: list[Device] = []
    while True:
        for earlier in sorted(entry.parent.glob(_WAITING)):  # each time: one that was killed may come back
            if earlier.name < entry.name:
                _wait_until_free(earlier)
        names = device_names()
        for name in names:
            lock = try_lock(entry.parent / f"device-{_plain(name)}")
            if lock is not None:
                mine.append(Device(name, lock))
            if len(mine) == min(count, len(names)):
                return mine
        time.sleep(_LOOK_SECONDS)  # only whoever is first in the line comes here


def is_held(path: Path) -> bool:
    """Whether a process that lives holds the lock of this file; False also when there is no file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of this file; None: somebody else holds it."""
    for _ in range(_TRIES):
        try:
            return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOKED_AT_SECONDS)
    return None


def _locked(path: Path, how: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _wait_until_free(path: Path) -> None:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return  # it has its device


def _is_nvidia(name: str) -> bool:
    return re.fullmatch(r"nvidia\d+", name) is not None


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", name)  # GPU-8f2a..., MIG-...
