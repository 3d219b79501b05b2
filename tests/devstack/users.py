"""Users of a small stack, by plain HTTP."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx
import jwt

from devstack.up import Stack

PASSWORD = "correct-horse-battery"


class User:
    """Signed up by `new`; `http` sends the publishable key and this user's token."""

    def __init__(self, stack: Stack, session: dict[str, Any]) -> None:
        self.id: str = session["user"]["id"]
        self.email: str = session["user"]["email"]
        self.token: str = session["access_token"]
        self.http = client(stack, stack.publishable_key, self.token)

    @classmethod
    def new(cls, stack: Stack) -> User:
        with client(stack, stack.publishable_key) as http:
            body = {"email": f"user-{uuid4().hex}@test.local", "password": PASSWORD}
            response = http.post("/auth/v1/signup", json=body)
        assert response.status_code == 200, response.text
        return cls(stack, response.json())


def client(stack: Stack, key: str | None = None, bearer: str | None = None) -> httpx.Client:
    """Talks to the front door with these credentials."""
    headers = {"apikey": key or "", "authorization": f"Bearer {bearer}" if bearer else ""}
    return httpx.Client(base_url=stack.url, headers={k: v for k, v in headers.items() if v}, timeout=20)


def token(secret: str, **claims: Any) -> str:
    """An access token with these claims, valid for a minute."""
    now = int(time.time())
    return jwt.encode({"iat": now, "exp": now + 60, **claims}, secret, algorithm="HS256")
