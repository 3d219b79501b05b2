"""provider-webhook: a provider says that something happened to a run, and we go and look.

What it says is never believed further than that. Nothing is parsed before its signature was checked
against the secret that the user named in the address has stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr

from functions.context import Context
from functions.messages import Request, Response, Signed
from shared.errors import FineFlowError, Unauthorized
from shared.log import logger
from shared.providers.openai_webhooks import ProviderHint, read_webhook

Reader = Callable[[bytes, Mapping[str, str], SecretStr], ProviderHint | None]
_READERS: dict[str, Reader] = {"openai": read_webhook}
_MOST_A_MINUTE = 120  # a user and provider
_log = logger("provider-webhook")


class ProviderWebhook(Request):
    provider: Literal["openai"]
    user: UUID = Field(description="Whose secret signs: part of the address that is set at the provider.")


class Received(Response):
    received: bool = True


async def handle(message: Signed[ProviderWebhook], context: Context) -> Received:
    """The job that is meant was looked at. Genuine messages about anything else are received too."""
    provider, user_id = message.query.provider, message.query.user
    secret = await context.services.keys.open_webhook_secret(user_id, provider)
    if secret is None:  # not said: whether there is such a user is nobody's business
        raise Unauthorized("The signature is missing, wrong or too old.", code="bad_signature")
    await context.services.count_call(f"provider-webhook:{provider}:{user_id}", _MOST_A_MINUTE)
    hint = _READERS[provider](message.body, message.headers, secret)
    if hint is not None:
        await _look(hint, provider, user_id, context)
    return Received()


async def _look(hint: ProviderHint, provider: str, user_id: UUID, context: Context) -> None:
    job_id: str | None = await context.service_db.call(
        "receive_provider_webhook",
        provider=provider,
        user_id=str(user_id),
        webhook_id=hint.delivery_id[:200],
        provider_job_id=hint.provider_job_id,
    )
    if job_id is None:
        return
    try:
        await context.services.jobs.advance(UUID(job_id))
    except FineFlowError as error:  # the job is due now: the schedule looks again
        _log.warning("hint not followed", job_id=job_id, code=error.code, error=error.message)
