"""Seals every stored key anew with the current master secret, while keys are read and set.

A row is written only if it still holds the ciphertext that was opened: a key that its user sets
meanwhile wins. So it may be stopped, repeated and run twice at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.db import Database, Row
from shared.keys.crypto import KeyDoesNotOpen, KeySealer, Purpose
from shared.log import logger


@dataclass(frozen=True)
class _Column:
    """Where something sealed stands, and which address it is bound to."""

    sealed: str
    key_id: str
    purpose: Purpose
    binds_base_url: bool


_KEY = _Column("ciphertext", "key_id", "v1", binds_base_url=True)
_WEBHOOK = _Column("webhook_secret", "webhook_key_id", "v1/webhook", binds_base_url=False)

_log = logger("keys")


async def rotate(db: Database, sealer: KeySealer, limit: int) -> tuple[int, int]:
    """How many secrets were sealed anew, `limit` at most of each kind, and how many are left.

    What is left after a call that rotated none was sealed with a secret that this server does not know.
    """
    rotated = 0
    for column in (_KEY, _WEBHOOK):
        for row in await _rows_to_rotate(db, sealer, column, limit):
            rotated += await _reseal(db, sealer, column, row)
    return rotated, await _left(db, sealer, _KEY) + await _left(db, sealer, _WEBHOOK)


async def _rows_to_rotate(db: Database, sealer: KeySealer, column: _Column, limit: int) -> list[Row]:
    rows: list[Row] = []
    for key_id in sealer.other_key_ids:
        if len(rows) == limit:
            break
        query = db.table("user_api_keys").select(f"user_id,provider,base_url,{column.sealed},{column.key_id}")
        query = query.eq(column.key_id, key_id).order("updated_at").limit(limit - len(rows))
        rows += (await db.run(query)).data
    return rows


async def _reseal(db: Database, sealer: KeySealer, column: _Column, row: Row) -> bool:
    bound_to: dict[str, Any] = {
        "user_id": UUID(row["user_id"]),
        "provider": row["provider"],
        "base_url": row["base_url"] if column.binds_base_url else None,
        "purpose": column.purpose,
    }
    try:
        secret = sealer.open(row[column.sealed], key_id=row[column.key_id], **bound_to)
    except KeyDoesNotOpen:
        _log.warning("key not rotated: it does not open", user=row["user_id"], provider=row["provider"])
        return False
    done: bool = await db.call(
        "reseal_api_key",
        user_id=row["user_id"],
        provider=row["provider"],
        old=row[column.sealed],
        new=sealer.seal(secret, **bound_to),
        key_id=sealer.key_id,
    )
    return done


async def _left(db: Database, sealer: KeySealer, column: _Column) -> int:
    query = db.table("user_api_keys").select("user_id", count="exact", head=True)
    return int((await db.run(query.neq(column.key_id, sealer.key_id))).count or 0)
