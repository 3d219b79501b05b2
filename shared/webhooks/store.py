"""All that is asked of the database about webhooks. Each method is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from shared.db import Database, Row
from shared.errors import Conflict
from shared.keys.crypto import KeyDoesNotOpen, KeySealer
from shared.log import logger
from shared.webhooks.sign import new_secret

MOST_ENDPOINTS = 20  # a project
OVERLAP_SECONDS = 86_400  # how long a replaced secret signs along
_LEASE_SECONDS = 60  # longer than an attempt may take
_log = logger("webhooks")


@dataclass(frozen=True)
class Delivery:
    """One event for one endpoint, held until the lease ends; this attempt is counted already."""

    id: UUID
    lease_token: UUID
    endpoint_id: UUID
    event_id: str
    type: str
    payload: dict[str, Any]
    attempts: int
    url: str
    sealed_secrets: tuple[Row, ...]

    @classmethod
    def from_row(cls, row: Row) -> Delivery:
        """The delivery of what private.held_delivery returns."""
        return cls(
            id=UUID(row["id"]),
            lease_token=UUID(row["lease_token"]),
            endpoint_id=UUID(row["endpoint_id"]),
            event_id=row["event_id"],
            type=row["type"],
            payload=row["payload"],
            attempts=row["attempts"],
            url=row["url"],
            sealed_secrets=tuple(row["secrets"]),
        )


class WebhookStore:
    """Endpoints, their secrets and deliveries, as the service."""

    def __init__(self, db: Database, sealer: KeySealer) -> None:
        self._db = db
        self._sealer = sealer

    async def create(self, endpoint: Row) -> tuple[Row, SecretStr]:
        """The endpoint and its secret, which is told to nobody again. Raises Conflict for one too many."""
        endpoint_id, secret = uuid4(), new_secret()
        row = await self._db.call(
            "create_webhook_endpoint",
            endpoint=endpoint | {"id": str(endpoint_id)},
            secret=self._sealed(secret, endpoint_id),
            most=MOST_ENDPOINTS,
        )
        if row is None:
            raise Conflict(
                f"A project has at most {MOST_ENDPOINTS} webhook endpoints. Delete one.",
                code="too_many_webhooks",
            )
        return row, secret

    async def rotate(self, endpoint_id: UUID) -> SecretStr:
        """The new secret. The one before signs along for a day."""
        secret = new_secret()
        await self._db.call(
            "rotate_webhook_secret",
            endpoint_id=str(endpoint_id),
            secret=self._sealed(secret, endpoint_id),
            overlap_seconds=OVERLAP_SECONDS,
        )
        return secret

    async def update(self, endpoint_id: UUID, columns: Row) -> Row:
        """The endpoint with these columns changed."""
        query = self._db.table("webhook_endpoints").update(columns).eq("id", str(endpoint_id))
        rows: list[Row] = (await self._db.run(query)).data
        return rows[0]

    async def delete(self, endpoint_id: UUID) -> None:
        """The endpoint is gone, with its secrets and its log."""
        await self._db.run(self._db.table("webhook_endpoints").delete().eq("id", str(endpoint_id)))

    async def claim(self, limit: int, *, per_endpoint: int) -> list[Delivery]:
        """Deliveries that are due, under fresh leases."""
        rows = await self._db.call(
            "claim_webhook_deliveries", limit=limit, per_endpoint=per_endpoint, lease_seconds=_LEASE_SECONDS
        )
        return [Delivery.from_row(row) for row in rows]

    async def begin_test(self, endpoint_id: UUID) -> Delivery:
        """A ping, held by the caller."""
        row = await self._db.call(
            "begin_webhook_test", endpoint_id=str(endpoint_id), lease_seconds=_LEASE_SECONDS
        )
        return Delivery.from_row(row)

    async def finish(
        self,
        delivery: Delivery,
        *,
        status_code: int | None,
        error: str | None,
        retry_seconds: float | None,
    ) -> None:
        """The attempt is recorded. error None: taken. retry_seconds None: there is no further attempt."""
        await self._db.call(
            "finish_webhook_delivery",
            id=str(delivery.id),
            lease_token=str(delivery.lease_token),
            is_delivered=error is None,
            status_code=status_code,
            error=error,
            retry_seconds=retry_seconds,
        )

    async def redeliver(self, delivery_id: UUID) -> str:
        """`queued`, `not_dead` or `endpoint_disabled`."""
        outcome: str = await self._db.call("redeliver_webhook", delivery_id=str(delivery_id))
        return outcome

    def secrets(self, delivery: Delivery) -> Sequence[SecretStr]:
        """Those that sign, the present one first. Raises KeyDoesNotOpen, also when there is none."""
        if not delivery.sealed_secrets:
            raise KeyDoesNotOpen("The endpoint has no secret. Rotate it to give it one.")
        return [
            self._sealer.open(row["ciphertext"], key_id=row["key_id"], **_bound_to(delivery.endpoint_id))
            for row in delivery.sealed_secrets
        ]

    async def reseal(self, limit: int) -> tuple[int, int]:
        """How many secrets were sealed anew with the current master secret, `limit` at most for each other
        one, and how many are left. May be repeated, and run twice at once.
        """
        resealed = 0
        for old in self._sealer.other_key_ids:
            query = self._db.table("webhook_secrets").select("id,endpoint_id,ciphertext").eq("key_id", old)
            for row in (await self._db.run(query.limit(limit))).data:
                resealed += await self._reseal(row, old)
        left = self._db.table("webhook_secrets").select("id", count="exact", head=True)
        return resealed, (await self._db.run(left.neq("key_id", self._sealer.key_id))).count or 0

    async def _reseal(self, row: Row, old: str) -> int:
        bound_to = _bound_to(UUID(row["endpoint_id"]))
        try:
            secret = self._sealer.open(row["ciphertext"], key_id=old, **bound_to)
        except KeyDoesNotOpen:
            _log.warning("secret not resealed: it does not open", endpoint_id=row["endpoint_id"])
            return 0
        new = {"ciphertext": self._sealer.seal(secret, **bound_to), "key_id": self._sealer.key_id}
        update = self._db.table("webhook_secrets").update(new).eq("id", row["id"]).eq("key_id", old)
        return len((await self._db.run(update)).data)

    def _sealed(self, secret: SecretStr, endpoint_id: UUID) -> Row:
        return {
            "ciphertext": self._sealer.seal(secret, **_bound_to(endpoint_id)),
            "key_id": self._sealer.key_id,
            "last_four": secret.get_secret_value()[-4:],
        }


def _bound_to(endpoint_id: UUID) -> dict[str, Any]:
    return {"user_id": endpoint_id, "provider": "webhook", "purpose": "v1/endpoint"}
