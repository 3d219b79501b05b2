"""manage-api-keys: a user sets, sees, checks and deletes provider keys. A key goes in and never comes out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator

from functions.auth import CallerKind
from functions.context import Context
from functions.messages import Request, Response
from shared.db import Row
from shared.errors import Forbidden, ProviderKeyInvalid
from shared.keys.store import KEY_PROVIDERS, KeyProvider, OpenedKey, key_not_found
from shared.providers.base import KeyFacts
from shared.providers.key_checks import check

_ENDED = ("completed", "failed", "cancelled")
_ONE_ADDRESS = ("gemini", "huggingface")
_ROTATED_AT_ONCE = 200  # of each kind: well under the minute that a function may take
BaseUrl = Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]


class ManageApiKeys(Request):
    action: Literal["set", "status", "validate", "delete", "rotate"] = Field(
        description="rotate: called by the service, seals 200 keys anew with the current master secret."
    )
    provider: KeyProvider | None = None
    api_key: SecretStr | None = Field(default=None, min_length=8, max_length=4096)
    base_url: BaseUrl | None = Field(default=None, description="None: the vendor's own address.")
    webhook_secret: SecretStr | None = Field(
        default=None, min_length=8, max_length=500, description="What the provider signs its webhooks with."
    )
    checked: bool = Field(
        default=True,
        alias="validate",
        description="set: false stores the key without asking the provider, as when it cannot be reached.",
    )

    @field_validator("api_key", "webhook_secret", mode="before")
    @classmethod
    def _without_spaces(cls, value: object) -> object:
        return value.strip() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> ManageApiKeys:
        if self.action not in ("status", "rotate") and self.provider is None:
            raise ValueError(f"{self.action} needs a provider")
        if (self.action == "set") != bool(self.api_key or self.webhook_secret):
            raise ValueError("set needs an apiKey or a webhookSecret, and only set takes one")
        if self.base_url is not None and (self.api_key is None or self.provider in _ONE_ADDRESS):
            raise ValueError("only set with an apiKey takes a baseUrl, and not for gemini and huggingface")
        return self


class KeyStatus(Response):
    provider: KeyProvider
    set: bool
    last_four: str | None = None
    base_url: str | None = None
    account: str | None = Field(default=None, description="Whose key it is, as the provider names it.")
    permissions: tuple[str, ...] = ()
    validated_at: datetime | None = Field(default=None, description="null: not checked with the provider.")
    invalid_at: datetime | None = Field(
        default=None, description="When the provider refused it; jobs wait until it is set again."
    )
    invalid_reason: str | None = None
    webhook_secret_set: bool = False


class Rotation(Response):
    rotated: int
    left: int  # unchanged by a call that rotated none: sealed with a secret that is not known here


class KeysStatus(Response):
    keys: list[KeyStatus]
    openai_key_set: bool  # beside the list, for clients that know only these two
    anthropic_key_set: bool
    waiting_jobs: tuple[UUID, ...] = Field(
        default=(), description="delete: your unfinished jobs that wait until this key is set again."
    )
    rotation: Rotation | None = Field(default=None, description="rotate only; the keys are not listed then.")


async def handle(request: ManageApiKeys, context: Context) -> KeysStatus:
    """What is set after the action."""
    if request.action == "rotate":
        return await _rotate(context)
    waiting: list[UUID] = []
    if request.provider is not None:
        if request.action == "set":
            await _set(request, request.provider, context)
        elif request.action == "validate":
            await _validate(request.provider, context)
        elif request.action == "delete":
            waiting = await _delete(request.provider, context)
    return await _status(context, waiting)


async def check_and_set(
    context: Context, provider: KeyProvider, api_key: SecretStr, base_url: str | None = None
) -> None:
    """The caller's key is this one, which the provider has just taken.

    Nothing was stored when it raises: ProviderKeyInvalid for a key that is refused, ProviderUnavailable
    when the provider cannot be asked, and what else shared.providers.key_checks.check raises.
    """
    facts = await _ask(provider, OpenedKey(api_key, base_url), context)
    await context.services.keys.set(
        context.user_id,
        provider,
        api_key,
        base_url,
        validated=True,
        account=facts.account,
        permissions=facts.permissions,
    )


async def _set(request: ManageApiKeys, provider: KeyProvider, context: Context) -> None:
    keys = context.services.keys
    if request.api_key is not None and request.checked:
        await check_and_set(context, provider, request.api_key, request.base_url)
    elif request.api_key is not None:
        await keys.set(context.user_id, provider, request.api_key, request.base_url)
    if request.webhook_secret is not None:
        await keys.set_webhook_secret(context.user_id, provider, request.webhook_secret)


async def _validate(provider: KeyProvider, context: Context) -> None:
    keys = context.services.keys
    opened = await keys.open_anyway(context.user_id, provider)
    if opened is None:
        raise key_not_found(provider)
    try:
        facts = await _ask(provider, opened, context)
    except ProviderKeyInvalid as refused:
        await keys.mark_invalid(context.user_id, provider, opened, refused.message)
        return
    await keys.mark_valid(
        context.user_id, provider, opened, account=facts.account, permissions=facts.permissions
    )


async def _ask(provider: KeyProvider, opened: OpenedKey, context: Context) -> KeyFacts:
    return await check(provider, opened, context.services.providers, context.settings)


async def _delete(provider: KeyProvider, context: Context) -> list[UUID]:
    if not await context.services.keys.delete(context.user_id, provider):
        raise key_not_found(provider)
    db = context.service_db
    query = db.table("training_jobs").select("id").eq("user_id", str(context.user_id))
    query = query.eq("provider", provider).not_.in_("status", _ENDED).order("created_at")
    return [UUID(row["id"]) for row in (await db.run(query)).data]


async def _rotate(context: Context) -> KeysStatus:
    if context.caller.kind != CallerKind.SERVICE:
        raise Forbidden("Only the service may rotate the keys.")
    keys, keys_left = await context.services.keys.rotate(_ROTATED_AT_ONCE)
    webhooks, webhooks_left = await context.services.webhooks.reseal(_ROTATED_AT_ONCE)
    rotation = Rotation(rotated=keys + webhooks, left=keys_left + webhooks_left)
    return KeysStatus(keys=[], openai_key_set=False, anthropic_key_set=False, rotation=rotation)


async def _status(context: Context, waiting: list[UUID]) -> KeysStatus:
    stored = {row["provider"]: row for row in await context.services.keys.status(context.user_id)}
    return KeysStatus(
        keys=[_key_status(name, stored.get(name)) for name in KEY_PROVIDERS],
        openai_key_set="openai" in stored,
        anthropic_key_set="anthropic" in stored,
        waiting_jobs=tuple(waiting),
    )


def _key_status(provider: KeyProvider, row: Row | None) -> KeyStatus:
    if row is None:
        return KeyStatus(provider=provider, set=False)
    shown = {name: value for name, value in row.items() if name in KeyStatus.model_fields}
    is_signed = row["webhook_key_id"] is not None
    return KeyStatus.model_validate(shown | {"set": True, "webhook_secret_set": is_signed})
