"""Functions on a socket of their own, over the embedded stack, with providers that a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import uvicorn
from pydantic import SecretStr

from devstack.ports import free_port
from devstack.secrets_file import load_secrets
from devstack.up import Stack
from functions.context import Services
from functions.entry import create_app
from shared.config import Settings
from shared.providers.registry import Providers


@asynccontextmanager
async def functions_over(
    stack: Stack, available: Providers, **others: Any
) -> AsyncIterator[tuple[str, Services]]:
    """Their address, and what they work with; `others` take the place of services. Trainers report here."""
    secrets = load_secrets(stack.data_dir)
    settings = Settings(
        supabase_url=stack.url,
        supabase_publishable_key=stack.publishable_key,
        supabase_secret_key=SecretStr(stack.secret_key),
        supabase_jwt_secret=SecretStr(stack.jwt_secret),
        api_key_encryption_secret=secrets.api_key_encryption_secret,
        function_secret=secrets.function_secret,
        data_dir=stack.data_dir,
        rate_limit_per_minute=1000,
    )
    app = create_app(settings, available=available)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    services: Services = app.state.services
    jobs = replace(services.jobs, report_url=f"{url}/functions/v1/report-training")
    app.state.services = replace(services, jobs=jobs, **others)
    yield url, app.state.services
    server.should_exit = True
    await task
