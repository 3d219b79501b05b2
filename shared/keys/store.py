"""Provider keys of users: rows that only the service reads, opened only in memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args
from uuid import UUID

from pydantic import SecretStr

from shared.db import Database, Row
from shared.keys.crypto import KeySealer

KeyProvider = Literal[
    "openai", "anthropic", "gemini", "huggingface", "together", "modal", "openai_compatible"
]
KEY_PROVIDERS: tuple[KeyProvider, ...] = get_args(KeyProvider)
_PUBLIC_COLUMNS = "provider,last_four,base_url,validated_at,updated_at"


@dataclass(frozen=True)
class OpenedKey:
    """A key that is open: for the length of one call, never stored or logged."""

    api_key: SecretStr
    base_url: str | None = None  # None: the vendor's own address
    updated_at: str = ""  # of the row: says which key was opened, should the user replace it meanwhile


class KeyStore:
    """Reads and writes keys as the service."""

    def __init__(self, db: Database, sealer: KeySealer) -> None:
        self._db = db
        self._sealer = sealer

    async def set(
        self, user_id: UUID, provider: KeyProvider, api_key: SecretStr, base_url: str | None = None
    ) -> None:
        """The user's key for this provider is this one; an older one is gone."""
        row = {
            "user_id": str(user_id),
            "provider": provider,
            "ciphertext": self._sealer.seal(api_key, user_id=user_id, provider=provider, base_url=base_url),
            "key_id": self._sealer.key_id,
            "last_four": api_key.get_secret_value()[-4:],
            "base_url": base_url,
            "validated_at": None,
            "updated_at": datetime.now(UTC).isoformat(),
        }
        await self._db.run(self._db.table("user_api_keys").upsert(row, on_conflict="user_id,provider"))

    async def open(self, user_id: UUID, provider: KeyProvider) -> OpenedKey | None:
        """The key; None when the user set none. Raises KeyDoesNotOpen."""
        row = await self._db.find("user_api_keys", user_id=user_id, provider=provider)
        if row is None:
            return None
        api_key = self._sealer.open(
            row["ciphertext"], user_id=user_id, provider=provider, base_url=row["base_url"]
        )
        return OpenedKey(api_key, row["base_url"], row["updated_at"])

    async def status(self, user_id: UUID) -> list[Row]:
        """What may be shown of the user's keys: provider, last four characters, dates."""
        query = (
            self._db.table("user_api_keys")
            .select(_PUBLIC_COLUMNS)
            .eq("user_id", str(user_id))
            .order("provider")
        )
        return list((await self._db.run(query)).data)

    async def delete(self, user_id: UUID, provider: KeyProvider) -> bool:
        """The key is gone. False: there was none."""
        query = self._db.table("user_api_keys").delete().eq("user_id", str(user_id)).eq("provider", provider)
        return bool((await self._db.run(query)).data)
