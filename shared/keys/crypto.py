"""Seals what users entrust to us with AES-256-GCM.

The additional data names purpose, user, provider, base address and master secret, so a ciphertext that
is moved to another row or column, or whose base address is changed, does not open any more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from typing import Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from shared.errors import FineFlowError

_NONCE_BYTES = 12  # what GCM is specified for
# A provider key, the secret of a provider's webhooks, the secret of a webhook endpoint of ours.
Purpose = Literal["v1", "v1/webhook", "v1/endpoint"]


class KeyDoesNotOpen(FineFlowError):
    """The stored key was sealed for another row or with a master secret that is not known here."""

    status, default_code = 409, "api_key_unreadable"


def derive(secret: SecretStr, purpose: str) -> bytes:
    """32 bytes that serve one purpose: who learns one of them learns none of the others."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"fineflow/{purpose}".encode()).derive(
        secret.get_secret_value().encode()
    )


class KeySealer:
    """Seals with one master secret, `current`; opens what that one or any of `others` has sealed.

    The others are secrets on their way in or out, while the master secret is changed.
    """

    def __init__(self, current: SecretStr, *others: SecretStr) -> None:
        derived = [derive(secret, "provider-keys") for secret in (current, *others)]
        self._ciphers = {hashlib.sha256(b"key-id" + key).hexdigest()[:12]: AESGCM(key) for key in derived}
        self.key_id, *self.other_key_ids = self._ciphers  # of the current secret, and of the others

    def seal(
        self,
        secret: SecretStr,
        *,
        user_id: UUID,
        provider: str,
        base_url: str | None = None,
        purpose: Purpose = "v1",
    ) -> str:
        """Text that opens only for this purpose, user, provider and base address, beside `self.key_id`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound_to = _bound_to(purpose, user_id, provider, base_url, self.key_id)
        sealed = self._ciphers[self.key_id].encrypt(nonce, secret.get_secret_value().encode(), bound_to)
        return base64.b64encode(nonce + sealed).decode()

    def open(
        self,
        sealed: str,
        *,
        key_id: str,
        user_id: UUID,
        provider: str,
        base_url: str | None = None,
        purpose: Purpose = "v1",
    ) -> SecretStr:
        """What was sealed under this key id. Raises KeyDoesNotOpen."""
        bound_to = _bound_to(purpose, user_id, provider, base_url, key_id)
        try:
            raw = base64.b64decode(sealed, validate=True)
            opened = self._ciphers[key_id].decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to)
        except (KeyError, InvalidTag, ValueError, binascii.Error) as error:
            raise KeyDoesNotOpen(f"The stored {provider} key cannot be opened. Set it again.") from error
        return SecretStr(opened.decode())


def _bound_to(purpose: Purpose, user_id: UUID, provider: str, base_url: str | None, key_id: str) -> bytes:
    # Lengths in front of the parts: no two different rows give the same bytes.
    parts = (purpose, str(user_id), provider, base_url or "", key_id)
    return b"".join(len(part).to_bytes(4, "big") + part.encode() for part in parts)
