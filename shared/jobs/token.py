"""The token of a trainer: opens report-training for one job and attempt, and nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
from pydantic import SecretStr

from shared.errors import Unauthorized
from shared.keys.crypto import derive

_AUDIENCE = "fineflow-trainer"


@dataclass(frozen=True)
class TrainerIdentity:
    job_id: UUID
    attempt: int


class TrainerTokens:
    """Signs these tokens with a key of their own, derived from the master secret `current`.

    Reads those of any of `others` too: a trainer that runs for days outlives a change of the secret.
    """

    def __init__(self, current: SecretStr, *others: SecretStr) -> None:
        self._keys = [derive(secret, "trainer-tokens") for secret in (current, *others)]

    def issue(self, job_id: UUID, attempt: int, *, valid_seconds: int) -> SecretStr:
        """A token that is good for `valid_seconds` from now."""
        claims = {
            "sub": str(job_id),
            "attempt": attempt,
            "aud": _AUDIENCE,
            "exp": int(time.time()) + valid_seconds,
        }
        return SecretStr(jwt.encode(claims, self._keys[0], algorithm="HS256"))

    def read(self, token: str) -> TrainerIdentity:
        """Who holds the token. Raises Unauthorized."""
        try:
            claims = self._claims(token)
            return TrainerIdentity(UUID(claims["sub"]), int(claims["attempt"]))
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            raise Unauthorized("This token does not open report-training.", code="invalid_token") from error

    def _claims(self, token: str) -> dict[str, Any]:
        *first, last = self._keys
        for key in first:
            try:
                return _decode(token, key)
            except jwt.InvalidSignatureError:
                continue
        return _decode(token, last)


def _decode(token: str, key: bytes) -> dict[str, Any]:
    return jwt.decode(
        token, key, algorithms=["HS256"], audience=_AUDIENCE, options={"require": ["exp", "sub"]}
    )
