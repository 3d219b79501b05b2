"""What OpenAI tells by webhook. A delivery is a hint to look at a run, never the truth about it.

Standard Webhooks signatures (OpenAI's guide to webhooks, read 2026-11-20): the raw bytes are verified
before anything is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, SecretStr, ValidationError

from shared.errors import Unauthorized

EVENT_TYPES = frozenset(f"fine_tuning.job.{end}" for end in ("succeeded", "failed", "cancelled"))


@dataclass(frozen=True)
class ProviderHint:
    """A provider says that something happened to a run."""

    delivery_id: str  # the same for every repetition of a delivery
    provider_job_id: str


class _Data(BaseModel):
    id: str


class _Event(BaseModel):
    type: str
    data: _Data


def read_webhook(raw: bytes, headers: Mapping[str, str], secret: SecretStr) -> ProviderHint | None:
    """The hint in a delivery; None when it is genuine and about something else.

    Raises Unauthorized when the signature is not by this secret, or more than 300 s old or early.
    """
    # Not the SDK's own check, which is the same and takes half a second to import.
    from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

    try:
        Webhook(secret.get_secret_value()).verify(raw, dict(headers), json_parse=False)
    except (WebhookVerificationError, EmptyWebhookSecretError, ValueError):
        raise Unauthorized("The signature is missing, wrong or too old.", code="bad_signature") from None
    try:
        event = _Event.model_validate_json(raw)
    except ValidationError:
        return None
    if event.type not in EVENT_TYPES:
        return None
    delivery_id = next(value for name, value in headers.items() if name.lower() == "webhook-id")
    return ProviderHint(delivery_id=delivery_id, provider_job_id=event.data.id)
