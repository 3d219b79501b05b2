"""Signatures of outgoing webhooks, as Standard Webhooks asks for them.

https://github.com/standard-webhooks/standard-webhooks, specification 1.0.0 as of November 2026: HMAC-SHA256
over `<webhook-id>.<webhook-timestamp>.<body>`, by a secret of 24 to 64 bytes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from pydantic import SecretStr

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> SecretStr:
    """A secret that nobody has seen, in the form that receivers are given."""
    return SecretStr(_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode())


def signed_headers(
    body: bytes, event_id: str, timestamp_seconds: int, signers: Sequence[SecretStr]
) -> dict[str, str]:
    """The three headers. Every secret signs: a receiver needs to know one of them."""
    message = f"{event_id}.{timestamp_seconds}.".encode() + body
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp_seconds),
        "webhook-signature": " ".join(_signature(secret, message) for secret in signers),
    }


def _signature(secret: SecretStr, message: bytes) -> str:
    key = base64.b64decode(secret.get_secret_value().removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode()
