"""The trainers of the local provider: process groups of their own, started by the functions server.

They survive a restart of that server, so nobody ends them but the stack itself.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from devstack.processes import command_line, end_group, process_identity
from devstack.stack_files import read_json

GRACE_SECONDS = 10.0  # to write a checkpoint


async def end_trainers(data_dir: Path) -> int:
    """No trainer of this data directory runs afterwards; each could save a checkpoint. How many ran."""
    ended = await asyncio.gather(*(_end(file) for file in (data_dir / "runs").glob("*/process.json")))
    return sum(ended)


async def _end(file: Path) -> bool:
    process = read_json(file)
    identity = _identity(file.parent, process) if process else None
    if process is None or identity is None:
        return False
    return await end_group(process["pid"], identity, grace_seconds=GRACE_SECONDS)


def _identity(run_dir: Path, process: dict[str, Any]) -> str | None:
    """What the trainer is known by while it runs; None when it has ended."""
    identity = process_identity(process["pid"])
    start_ticks = process.get("start_ticks")
    if start_ticks is not None:
        return identity if identity == str(start_ticks) else None
    return identity if str(run_dir) in command_line(process["pid"]) else None  # not on Linux
