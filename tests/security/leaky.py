"""Functions as a server of their own, with a provider that quotes each key and breaks down."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from devstack.ports import free_port
from devstack.secrets_file import load_secrets
from devstack.up import Stack
from functions.entry import create_app
from shared.config import settings
from shared.errors import ProviderKeyInvalid
from shared.keys.store import OpenedKey
from shared.providers.base import KeyFacts
from tests.security.canaries import quoting
from tests.shared.providers.scripted import ScriptedProvider

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Leaky(ScriptedProvider):
    """Refuses every key, and those of a known shape in a way that nobody foresaw."""

    name: str = "leaky"
    key: Any = "anthropic"

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        secret = key.api_key.get_secret_value()
        if secret.startswith("sk-"):
            raise RuntimeError(quoting(secret))
        raise ProviderKeyInvalid(quoting(secret), details={"said": [quoting(secret)]})


@asynccontextmanager
async def leaky_functions(stack: Stack, gemini_url: str) -> AsyncIterator[str]:
    """Their address, over the database of the stack. They log beside the stack's own servers."""
    secrets, port = load_secrets(stack.data_dir), free_port()
    environment = os.environ | {
        "SUPABASE_URL": stack.url,
        "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "SUPABASE_JWT_SECRET": stack.jwt_secret,
        "API_KEY_ENCRYPTION_SECRET": secrets.api_key_encryption_secret.get_secret_value(),
        "FINEFLOW_FUNCTION_SECRET": stack.function_secret,
        "FINEFLOW_DATA_DIR": str(stack.data_dir),
        "GEMINI_BASE_URL": gemini_url,
    }
    command = (
        sys.executable,
        "-m",
        "uvicorn",
        "tests.security.leaky:app",
        "--port",
        str(port),
        "--no-access-log",
    )
    with (stack.data_dir / "logs" / "leaky.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(30), httpx.AsyncClient() as http:
            while not await _answers(http, url):
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/functions/v1/health")).is_success
    except httpx.TransportError:
        return False


def __getattr__(name: str) -> Any:
    if name == "app":  # what uvicorn asks for
        return create_app(settings(), available={"leaky": Leaky()})
    raise AttributeError(name)
