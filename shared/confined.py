"""Processes that read what somebody else wrote: they know none of our keys, and a limit ends them."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[1])  # sys.path may name it by an empty string
# A reader needs no network, no other program and no file of its own.
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn")
_confined = False


def command(module: str, *arguments: str) -> tuple[str, ...]:
    """What starts the module as a process of its own; it calls `confine` before it reads anything."""
    return (sys.executable, "-P", "-s", "-B", "-m", module, *arguments)


def environment(**variables: str) -> dict[str, str]:
    """Nothing of our own environment, which holds keys, but where the code lies; and these variables."""
    return {"PYTHONPATH": os.pathsep.join([_ROOT, *filter(None, sys.path)]), "LANG": "C.UTF-8", **variables}


def is_confined() -> bool:
    """Whether this process is one of those, so that it may read strange files itself."""
    return _confined


def confine(*, memory_bytes: int, cpu_seconds: int) -> None:
    """From now on this process takes no more than that, writes no file, and starts and calls nobody."""
    global _confined
    _confined = True
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        # Some systems know no limit of address space; the clock of the parent holds there.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
    sys.addaudithook(_refuse)


def _refuse(event: str, _: object) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(f"a reader of documents may not call {event}")
