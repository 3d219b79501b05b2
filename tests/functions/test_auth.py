"""Tokens of hosted Supabase: signed with a key of the project, verified by its JWKS, over real HTTP."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr

from functions.auth import Authenticator, CallerKind
from shared.config import Settings
from shared.errors import ServiceUnavailable, Unauthorized
from shared.jobs.token import TrainerTokens

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
USER = uuid4()
SECRET = SecretStr("x" * 40)
USERS = frozenset({CallerKind.USER})


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """The address of a project that publishes KEY."""
    published = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
    body = json.dumps({"keys": [{**published, "kid": "k1", "alg": "ES256", "use": "sig"}]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/auth/v1/.well-known/jwks.json"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(body if known else b"")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def authenticator(url: str, *, local_secret: SecretStr | None = None) -> Authenticator:
    settings = Settings(
        supabase_url=url,
        supabase_publishable_key="sb_publishable_x",
        supabase_secret_key=SecretStr("sb_secret_x"),
        supabase_jwt_secret=local_secret,
        api_key_encryption_secret=SECRET,
        function_secret=SECRET,
    )
    return Authenticator(settings, TrainerTokens(SECRET))


def token(issuer: str, key: Any = KEY, algorithm: str = "ES256", kid: str = "k1", **changed: Any) -> str:
    claims = {
        "sub": str(USER),
        "role": "authenticated",
        "aud": "authenticated",
        "iss": f"{issuer}/auth/v1",
        "exp": int(time.time()) + 60,
    } | changed
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm, {"kid": kid})


async def test_a_token_of_the_project_is_accepted(issuer: str) -> None:
    caller = await authenticator(issuer).caller(USERS, f"Bearer {token(issuer)}", None)
    assert (caller.kind, caller.user_id) == (CallerKind.USER, UUID(str(USER)))


@pytest.mark.parametrize(
    ("case", "code"),
    [
        pytest.param({"key": OTHER}, "invalid_token", id="key of another"),
        ({"kid": "unknown"}, "invalid_token"),
        ({"iss": "https://elsewhere.example/auth/v1"}, "invalid_token"),
        ({"iss": None}, "invalid_token"),
        ({"aud": None}, "invalid_token"),
        ({"aud": "storage"}, "invalid_token"),
        ({"role": "anon"}, "invalid_token"),
        ({"exp": 1}, "token_expired"),
    ],
    ids=str,
)
async def test_every_other_token_is_refused(issuer: str, case: dict[str, Any], code: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        await authenticator(issuer).caller(USERS, f"Bearer {token(issuer, **case)}", None)
    assert refused.value.code == code


async def test_the_public_key_is_no_secret(issuer: str) -> None:
    """The classic confusion: HS256 with the published key as the secret."""
    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    header, payload, _ = token(issuer, key="y" * 40, algorithm="HS256").split(".")
    signature = hmac.digest(public, f"{header}.{payload}".encode(), "sha256")  # PyJWT refuses to sign so
    forged = f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    for server in (authenticator(issuer), authenticator(issuer, local_secret=SECRET)):
        with pytest.raises(Unauthorized):
            await server.caller(USERS, f"Bearer {forged}", None)


async def test_keys_that_cannot_be_read_are_no_refusal() -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(ServiceUnavailable) as unavailable:
        await authenticator(nowhere).caller(USERS, f"Bearer {token(nowhere)}", None)
    assert unavailable.value.code == "auth_unavailable"
