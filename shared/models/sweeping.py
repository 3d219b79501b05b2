"""Pieces of models that nobody needs any more leave Storage. Which ones they are, the database says."""

from __future__ import annotations

from shared.db import Database
from shared.storage import Storage
from shared.training.model_files import BUCKET

PIECES_AT_ONCE = 500  # Storage deletes 1,000 by one request
EVERY_SECONDS = 600.0  # where fewer were found


async def sweep(db: Database, storage: Storage) -> int:
    """How many pieces are gone now. Most calls find that it is not time yet.

    What a sweep that died has left is found by the next one. Raises ServiceUnavailable.
    """
    names: list[str] = await db.call("claim_model_sweep", limit=PIECES_AT_ONCE, every_seconds=EVERY_SECONDS)
    if names:
        await storage.remove(BUCKET, names)
    return len(names)
