"""Provider keys of users: rows that only the service reads, opened only in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from uuid import UUID

from pydantic import SecretStr

from shared.db import Database, Row
from shared.errors import NotFound, ProviderKeyInvalid
from shared.keys.crypto import KeySealer
from shared.keys.rotation import rotate
from shared.log import redact, remember_secret

KeyProvider = Literal["openai", "anthropic", "gemini", "huggingface", "together", "openai_compatible"]
KEY_PROVIDERS: tuple[KeyProvider, ...] = get_args(KeyProvider)
_PUBLIC_COLUMNS = (
    "provider,last_four,base_url,validated_at,invalid_at,invalid_reason,account,permissions,webhook_key_id"
)
_MOST_PERMISSIONS = 50


@dataclass(frozen=True)
class OpenedKey:
    """A key that is open: for the length of one call, never stored or logged.

    While it is among the latest, `shared.log.redact` takes it out of every text.
    """

    api_key: SecretStr
    base_url: str | None = None  # None: the vendor's own address
    set_at: str = ""  # when the user set it: says which key was opened, should it be replaced

    def __post_init__(self) -> None:
        remember_secret(self.api_key)


class KeyStore:
    """Reads and writes keys as the service."""

    def __init__(self, db: Database, sealer: KeySealer) -> None:
        self._db = db
        self._sealer = sealer

    async def set(
        self,
        user_id: UUID,
        provider: KeyProvider,
        api_key: SecretStr,
        base_url: str | None = None,
        *,
        validated: bool = False,
        account: str | None = None,
        permissions: Sequence[str] = (),
    ) -> None:
        """The user's key for this provider is this one; an older one is gone, and what was known of it.

        Unfinished jobs there are due at once. `validated`: the provider has just taken the key, and said
        whose it is and what it may do. A webhook secret stays.
        """
        remember_secret(api_key)
        row = {
            "user_id": str(user_id),
            "provider": provider,
            "ciphertext": self._sealer.seal(api_key, user_id=user_id, provider=provider, base_url=base_url),
            "key_id": self._sealer.key_id,
            "last_four": api_key.get_secret_value()[-4:],
            "base_url": base_url,
            "set_at": _now(),
            **(_accepted(account, permissions) if validated else _UNKNOWN),
        }
        await self._db.run(self._db.table("user_api_keys").upsert(row, on_conflict="user_id,provider"))

    async def open(self, user_id: UUID, provider: KeyProvider) -> OpenedKey | None:
        """The key; None when the user set none.

        Raises ProviderKeyInvalid when the provider has refused it, and KeyDoesNotOpen.
        """
        row = await self._find(user_id, provider)
        if row is not None and row["invalid_at"] is not None:
            raise ProviderKeyInvalid(
                f"The {provider} key that ends in {row['last_four']} was refused: {row['invalid_reason']} "
                "Set a new one with manage-api-keys.",
                details={"provider": provider},
            )
        return None if row is None else self._opened(row, user_id, provider)

    async def open_anyway(self, user_id: UUID, provider: KeyProvider) -> OpenedKey | None:
        """The key, also one that the provider has refused: to ask once more. Raises KeyDoesNotOpen."""
        row = await self._find(user_id, provider)
        return None if row is None else self._opened(row, user_id, provider)

    async def rotate(self, limit: int) -> tuple[int, int]:
        """How many keys and webhook secrets were sealed anew with the current master secret (at most
        `limit` of each), and how many are left. See shared.keys.rotation.
        """
        return await rotate(self._db, self._sealer, limit)

    async def status(self, user_id: UUID) -> list[Row]:
        """What may be shown of the user's keys: provider, last four characters, whose it is, dates."""
        query = self._db.table("user_api_keys").select(_PUBLIC_COLUMNS).eq("user_id", str(user_id))
        return list((await self._db.run(query.order("provider"))).data)

    async def delete(self, user_id: UUID, provider: KeyProvider) -> bool:
        """The key is gone, with its webhook secret. False: there was none."""
        query = self._db.table("user_api_keys").delete().eq("user_id", str(user_id)).eq("provider", provider)
        return bool((await self._db.run(query)).data)

    async def mark_valid(
        self,
        user_id: UUID,
        provider: KeyProvider,
        opened: OpenedKey,
        *,
        account: str | None,
        permissions: Sequence[str],
    ) -> bool:
        """The provider has just taken this key. False: the user has replaced or deleted it meanwhile."""
        query = self._db.table("user_api_keys").update(_accepted(account, permissions))
        query = query.eq("user_id", str(user_id)).eq("provider", provider).eq("set_at", opened.set_at)
        return bool((await self._db.run(query)).data)

    async def mark_invalid(
        self, user_id: UUID, provider: KeyProvider, opened: OpenedKey, reason: str
    ) -> bool:
        """The provider has refused this key. False: the user has replaced or deleted it meanwhile."""
        marked: bool = await self._db.call(
            "mark_api_key_invalid",
            user_id=str(user_id),
            provider=provider,
            set_at=opened.set_at,
            reason=str(redact(reason))[:500],
        )
        return marked

    async def set_webhook_secret(self, user_id: UUID, provider: KeyProvider, secret: SecretStr) -> None:
        """The provider signs its webhooks to this user with this secret. Raises NotFound without a key."""
        remember_secret(secret)
        sealed = self._sealer.seal(secret, user_id=user_id, provider=provider, purpose="v1/webhook")
        columns = {"webhook_secret": sealed, "webhook_key_id": self._sealer.key_id}
        query = self._db.table("user_api_keys").update(columns)
        query = query.eq("user_id", str(user_id)).eq("provider", provider)
        if not (await self._db.run(query)).data:
            raise key_not_found(provider)

    async def open_webhook_secret(self, user_id: UUID, provider: KeyProvider) -> SecretStr | None:
        """What the provider signs its webhooks with; None: not set. Raises KeyDoesNotOpen."""
        row = await self._find(user_id, provider)
        if row is None or row["webhook_secret"] is None:
            return None
        secret = self._sealer.open(
            row["webhook_secret"],
            key_id=row["webhook_key_id"],
            user_id=user_id,
            provider=provider,
            purpose="v1/webhook",
        )
        remember_secret(secret)
        return secret

    async def _find(self, user_id: UUID, provider: KeyProvider) -> Row | None:
        return await self._db.find("user_api_keys", user_id=user_id, provider=provider)

    def _opened(self, row: Row, user_id: UUID, provider: KeyProvider) -> OpenedKey:
        api_key = self._sealer.open(
            row["ciphertext"],
            key_id=row["key_id"],
            user_id=user_id,
            provider=provider,
            base_url=row["base_url"],
        )
        return OpenedKey(api_key, row["base_url"], row["set_at"])


def key_not_found(provider: str) -> NotFound:
    """The error of asking for a key that is not set."""
    return NotFound(f"No {provider} key is set.", code="api_key_not_found")


def _now() -> str:
    return datetime.now(UTC).isoformat()


_UNKNOWN: dict[str, Any] = {
    "validated_at": None,
    "invalid_at": None,
    "invalid_reason": None,
    "account": None,
    "permissions": [],
}


def _accepted(account: str | None, permissions: Sequence[str]) -> dict[str, Any]:
    return _UNKNOWN | {
        "validated_at": _now(),
        "account": redact(account[:200]) if account else None,
        "permissions": [redact(permission)[:200] for permission in permissions[:_MOST_PERMISSIONS]],
    }
