"""The token of a trainer: opens report-training for one job and attempt, and nothing else."""

from __future__ import annotations

import time
from dataclasses import dataclass
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
    """Signs and reads these tokens with a key of their own, derived from the master secret."""

    def __init__(self, master: SecretStr) -> None:
        self._key = derive(master, "trainer-tokens")

    def issue(self, job_id: UUID, attempt: int, *, valid_seconds: int) -> SecretStr:
        """A token that is good for `valid_seconds` from now."""
        claims = {
            "sub": str(job_id),
            "attempt": attempt,
            "aud": _AUDIENCE,
            "exp": int(time.time()) + valid_seconds,
        }
        return SecretStr(jwt.encode(claims, self._key, algorithm="HS256"))

    def read(self, token: str) -> TrainerIdentity:
        """Who holds the token. Raises Unauthorized."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=_AUDIENCE,
                options={"require": ["exp", "sub"]},
            )
            return TrainerIdentity(UUID(claims["sub"]), int(claims["attempt"]))
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            raise Unauthorized("This token does not open report-training.", code="invalid_token") from error
