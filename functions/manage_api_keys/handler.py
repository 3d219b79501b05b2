"""manage-api-keys: a user sets, sees and deletes provider keys. A key goes in and never comes out."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from functions.context import Context
from functions.messages import Request, Response
from shared.db import Row
from shared.errors import NotFound
from shared.keys.store import KEY_PROVIDERS, KeyProvider


class ManageApiKeys(Request):
    action: Literal["set", "status", "delete"]
    provider: KeyProvider | None = None
    api_key: SecretStr | None = Field(default=None, min_length=8, max_length=4096)
    base_url: str | None = Field(default=None, max_length=500, pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")

    @field_validator("api_key", mode="before")
    @classmethod
    def _without_spaces(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> ManageApiKeys:
        if self.action != "status" and self.provider is None:
            raise ValueError(f"{self.action} needs a provider")
        if (self.action == "set") != (self.api_key is not None):
            raise ValueError("set needs an apiKey, and only set takes one")
        if self.base_url is not None and self.action != "set":
            raise ValueError("only set takes a baseUrl")
        return self


class KeyStatus(Response):
    provider: KeyProvider
    set: bool
    last_four: str | None = None
    base_url: str | None = None
    validated_at: datetime | None = Field(default=None, description="null: not checked with the provider.")


class KeysStatus(Response):
    keys: list[KeyStatus]
    openai_key_set: bool  # beside the list, for clients that know only these two
    anthropic_key_set: bool


async def handle(request: ManageApiKeys, context: Context) -> KeysStatus:
    """What is set after the action."""
    keys = context.services.keys
    if request.action == "set" and request.provider and request.api_key:
        await keys.set(context.user_id, request.provider, request.api_key, request.base_url)
    if (
        request.action == "delete"
        and request.provider
        and not await keys.delete(context.user_id, request.provider)
    ):
        raise NotFound(f"No {request.provider} key is set.", code="api_key_not_found")
    stored = {row["provider"]: row for row in await keys.status(context.user_id)}
    return KeysStatus(
        keys=[_status(name, stored.get(name)) for name in KEY_PROVIDERS],
        openai_key_set="openai" in stored,
        anthropic_key_set="anthropic" in stored,
    )


def _status(provider: KeyProvider, row: Row | None) -> KeyStatus:
    if row is None:
        return KeyStatus(provider=provider, set=False)
    shown = {name: row[name] for name in ("last_four", "base_url", "validated_at")}
    return KeyStatus(provider=provider, set=True, **shown)
