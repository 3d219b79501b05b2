"""Which keys and tokens are let in, and as whom."""

from __future__ import annotations

import json
import math
from typing import Any

import jwt
import pytest
from pydantic import SecretStr

from devstack.realtime.tokens import TokenRefused, Tokens

SECRET = "0123456789abcdef0123456789abcdef"
CLAIMS = {"sub": "u", "role": "authenticated", "aud": "authenticated", "exp": 4_000_000_000}
TOKENS = Tokens(SecretStr(SECRET), SecretStr("sb_publishable_a"), SecretStr("sb_secret_b"))


def test_keys() -> None:
    anon, service = TOKENS.of_key("sb_publishable_a"), TOKENS.of_key("sb_secret_b")
    assert (anon.role, service.role) == ("anon", "service_role")
    assert anon.expires_at == math.inf
    assert json.loads(anon.claims) == {"role": "anon"}


@pytest.mark.parametrize("key", [None, "", "sb_publishable_b", "é", jwt.encode(CLAIMS, SECRET)])
def test_refused_keys(key: str | None) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.of_key(key)


def test_user_token() -> None:
    identity = TOKENS.of_user(jwt.encode(CLAIMS, SECRET))
    assert (identity.role, identity.expires_at) == ("authenticated", 4e9)
    assert json.loads(identity.claims) == CLAIMS


def test_same_claims_are_the_same_identity() -> None:
    other_order = dict(reversed(CLAIMS.items()))
    assert TOKENS.of_user(jwt.encode(CLAIMS, SECRET)) == TOKENS.of_user(jwt.encode(other_order, SECRET))


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "not a valid JWT"),
        ("a.b.c", "not a valid JWT"),
        (jwt.encode(CLAIMS, None, "none"), "not a valid JWT"),
        (jwt.encode(CLAIMS, SECRET * 2, "HS512"), "not a valid JWT"),
        (jwt.encode(CLAIMS, "x" * 32), "Failed to validate JWT signature"),
        (jwt.encode(CLAIMS | {"exp": 1}, SECRET), "Token has expired"),
        (jwt.encode({"url": "bucket/file", "exp": 4_000_000_000}, SECRET), "are required"),
        (jwt.encode(CLAIMS | {"aud": "other"}, SECRET), "are required"),
        (jwt.encode(CLAIMS | {"role": "postgres"}, SECRET), "unknown role"),
        (jwt.encode(CLAIMS | {"role": ["anon"]}, SECRET), "unknown role"),
    ],
)
def test_refused_tokens(token: Any, reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        TOKENS.of_user(token)
