"""Who calls: a user with a token of Supabase Auth, the service with its secret, or a trainer.

A provider shows a signature instead, which provider-webhook checks.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import jwt
from jwt import PyJWKClient
from pydantic import SecretStr

from shared.config import Settings
from shared.errors import ServiceUnavailable, Unauthorized
from shared.jobs.token import TrainerIdentity, TrainerTokens

SECRET_HEADER = "x-fineflow-secret"
_JWKS_SECONDS = 600  # how long signing keys are kept; an unknown key id is looked up at once


class CallerKind(StrEnum):
    USER = "user"
    SERVICE = "service"  # row events, schedules and functions among themselves
    TRAINER = "trainer"
    PROVIDER = "provider"  # whoever signs with a secret that a user has stored; the function itself checks


@dataclass(frozen=True)
class Caller:
    """Somebody whose word was checked; a provider's is checked by the function that is called."""

    kind: CallerKind
    user_id: UUID | None = None  # set for users
    token: SecretStr | None = None  # the user's own, for reading under RLS
    trainer: TrainerIdentity | None = None  # set for trainers


class Authenticator:
    """Turns the headers of a request into a Caller."""

    def __init__(self, settings: Settings, tokens: TrainerTokens) -> None:
        self._settings = settings
        self._tokens = tokens
        issuer = f"{settings.supabase_url.rstrip('/')}/auth/v1"
        self._issuer = issuer
        self._jwks = PyJWKClient(f"{issuer}/.well-known/jwks.json", lifespan=_JWKS_SECONDS, timeout=10)

    async def caller(
        self, kinds: frozenset[CallerKind], authorization: str | None, secret: str | None
    ) -> Caller:
        """The caller, if of one of these kinds. Raises Unauthorized."""
        if CallerKind.SERVICE in kinds and secret is not None:
            return self._service(secret)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized(
                "This call needs a token: `Authorization: Bearer <access token>`. Sign in first.",
                code="missing_token",
            )
        if CallerKind.TRAINER in kinds:
            return Caller(CallerKind.TRAINER, trainer=self._tokens.read(token))
        if CallerKind.USER not in kinds:
            raise Unauthorized("Users may not call this function.", code="invalid_token")
        claims = await self._claims(token)
        return Caller(CallerKind.USER, user_id=UUID(claims["sub"]), token=SecretStr(token))

    def _service(self, secret: str) -> Caller:
        expected = self._settings.function_secret.get_secret_value()
        if not hmac.compare_digest(secret.encode(), expected.encode()):
            raise Unauthorized(f"The secret in {SECRET_HEADER} is wrong.", code="invalid_token")
        return Caller(CallerKind.SERVICE)

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            claims = await self._decode(token, algorithm)
            UUID(claims["sub"])
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("The token has expired. Refresh the session.", code="token_expired") from error
        except jwt.PyJWKClientConnectionError as error:
            raise ServiceUnavailable(
                "The signing keys of the project could not be read. Try again in a moment.",
                code="auth_unavailable",
            ) from error
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthorized("The token is not valid. Sign in again.", code="invalid_token") from error
        if claims.get("role") != "authenticated":
            raise Unauthorized("The token is not that of a user.", code="invalid_token")
        return claims

    async def _decode(self, token: str, algorithm: str | None) -> dict[str, Any]:
        # The audience is always required: storage signs its addresses with the same local secret.
        required = {"require": ["exp", "sub", "aud"]}
        if algorithm in ("ES256", "RS256"):
            key = await asyncio.to_thread(self._jwks.get_signing_key_from_jwt, token)
            return dict(
                jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    audience="authenticated",
                    issuer=self._issuer,
                    options={"require": [*required["require"], "iss"]},
                )
            )
        secret = self._settings.supabase_jwt_secret
        if algorithm == "HS256" and secret is not None:
            return dict(
                jwt.decode(
                    token,
                    secret.get_secret_value(),
                    algorithms=["HS256"],
                    audience="authenticated",
                    options={"require": required["require"]},
                )
            )
        raise jwt.InvalidAlgorithmError(f"tokens signed with {algorithm} are not accepted here")
