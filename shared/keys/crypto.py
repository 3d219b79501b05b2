"""Seals provider keys with AES-256-GCM.

The additional data names user, provider, base address and master secret, so a ciphertext that is
moved to another row, or whose base address is changed, does not open any more.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import SecretStr

from shared.errors import FineFlowError

_NONCE_BYTES = 12  # what GCM is specified for


class KeyDoesNotOpen(FineFlowError):
    """The stored key was sealed for another row or with another master secret."""

    status, default_code = 409, "api_key_unreadable"


def derive(secret: SecretStr, purpose: str) -> bytes:
    """32 bytes that serve one purpose: who learns one of them learns none of the others."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"fineflow/{purpose}".encode()).derive(
        secret.get_secret_value().encode()
    )


class KeySealer:
    """Seals and opens with one master secret."""

    def __init__(self, master: SecretStr) -> None:
        key = derive(master, "provider-keys")
        self._cipher = AESGCM(key)
        self.key_id = hashlib.sha256(b"key-id" + key).hexdigest()[:12]

    def seal(self, api_key: SecretStr, *, user_id: UUID, provider: str, base_url: str | None) -> str:
        """Text that opens only for this user, provider and base address."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound_to = self._bound_to(user_id, provider, base_url)
        sealed = self._cipher.encrypt(nonce, api_key.get_secret_value().encode(), bound_to)
        return base64.b64encode(nonce + sealed).decode()

    def open(self, ciphertext: str, *, user_id: UUID, provider: str, base_url: str | None) -> SecretStr:
        """The key. Raises KeyDoesNotOpen."""
        raw = base64.b64decode(ciphertext)
        bound_to = self._bound_to(user_id, provider, base_url)
        try:
            return SecretStr(self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bound_to).decode())
        except InvalidTag as error:
            raise KeyDoesNotOpen(f"The stored {provider} key cannot be opened. Set it again.") from error

    def _bound_to(self, user_id: UUID, provider: str, base_url: str | None) -> bytes:
        # Lengths in front of the parts: no two different rows give the same bytes.
        parts = ("v1", str(user_id), provider, base_url or "", self.key_id)
        return b"".join(len(part).to_bytes(4, "big") + part.encode() for part in parts)
