"""What a follower is told when it starts: one line of JSON on its standard input, which stays open."""

from __future__ import annotations

import os
from pathlib import Path

from shared.training.config import Record


class Orders(Record):
    """The part of one process in an attempt. The rest stands in the run directory."""

    rank: int
    count: int
    port: int  # of the store that rank 0 keeps, on the loopback
    checkpoint: Path | None  # what to go on from; None: the start
    most_rows_at_once: int | None


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torch and accelerate read to know of the others."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def said_by(rank: int) -> str:
    """The name in the store under which a follower says why it failed."""
    return f"failed/{rank}"


def waits(rank: int) -> str:
    """The name in the store under which a follower says that it has loaded all."""
    return f"waits/{rank}"


def source_root() -> str:
    """Where `modal_app` is imported from."""
    return os.fspath(Path(__file__).parents[2])
