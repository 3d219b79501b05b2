"""Who is asking: API keys are opaque, user tokens are HS256 JWTs."""

from __future__ import annotations

import hmac
import json
import math
from dataclasses import dataclass
from typing import Any

import jwt
from pydantic import SecretStr

ROLES = ("anon", "authenticated", "service_role")
AUDIENCE = "authenticated"


class TokenRefused(ValueError):
    """The key or token gives no access; the text is Realtime's, `Kind: reason`."""

    @property
    def reason(self) -> str:
        return str(self).split(": ", 1)[-1]


@dataclass(frozen=True)
class Identity:
    """What Postgres is asked as. `claims`: canonical JSON; `expires_at`: Unix seconds, infinite for a key."""

    role: str
    claims: str
    expires_at: float


class Tokens:
    """Turns keys and tokens into identities."""

    def __init__(self, jwt_secret: SecretStr, publishable_key: SecretStr, secret_key: SecretStr) -> None:
        self._jwt_secret = jwt_secret
        self._keys = {"anon": publishable_key, "service_role": secret_key}

    def of_key(self, key: str | None) -> Identity:
        """The role that an API key stands for. Raises TokenRefused."""
        if not key:
            raise TokenRefused("MissingAPIKey: API key is missing")
        for role, expected in self._keys.items():
            if hmac.compare_digest(key.encode(), expected.get_secret_value().encode()):
                return Identity(role, _canonical({"role": role}), math.inf)
        raise TokenRefused("InvalidAPIKey: Invalid API key")

    def of_user(self, token: str) -> Identity:
        """The claims of a user's token. Raises TokenRefused.

        The audience is demanded because signed URLs of Storage are made with the same secret.
        """
        try:
            claims = jwt.decode(
                token,
                self._jwt_secret.get_secret_value(),
                algorithms=["HS256"],
                audience=AUDIENCE,
                options={"require": ["exp", "role", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenRefused("InvalidJWTToken: Token has expired") from None
        except jwt.InvalidSignatureError:
            raise TokenRefused("JwtSignatureError: Failed to validate JWT signature") from None
        except (jwt.MissingRequiredClaimError, jwt.InvalidAudienceError):
            raise TokenRefused(
                f"InvalidJWTToken: `role`, `exp` and `aud` = {AUDIENCE} are required"
            ) from None
        except jwt.PyJWTError:
            raise TokenRefused("MalformedJWT: The token provided is not a valid JWT") from None
        if claims["role"] not in ROLES:
            raise TokenRefused("InvalidJWTToken: unknown role")
        return Identity(claims["role"], _canonical(claims), float(claims["exp"]))


def _canonical(claims: dict[str, Any]) -> str:
    return json.dumps(claims, sort_keys=True, separators=(",", ":"))
