"""The functions as they are, with vendors on loopback and limits of seconds instead of minutes.

`uvicorn tests.shared.jobs.chaos.app:app`; FINEFLOW_CHAOS_TRAINERS_URL says where the trainers are.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from functions.entry import create_app
from shared.config import settings
from shared.jobs.timing import Timing
from shared.providers.openai import OpenAIProvider
from tests.shared.jobs.crash.claiming import ClaimingProvider

TRAINERS_URL = "FINEFLOW_CHAOS_TRAINERS_URL"
LATE_SECONDS = 2.0
TIMING = Timing(lease=15, step=12, poll_shortest=2, poll_longest=5, backoff_longest=20)


def chaos_app() -> FastAPI:
    """The app over the settings of the environment."""
    openai = OpenAIProvider(allow_private_addresses=True, timeout_seconds=6, late_seconds=LATE_SECONDS)
    claiming = ClaimingProvider(os.environ[TRAINERS_URL], LATE_SECONDS)
    app = create_app(settings(), available={"openai": openai, "claiming": claiming})
    connect = app.router.lifespan_context

    @asynccontextmanager
    async def with_short_limits(app: FastAPI) -> AsyncIterator[Any]:
        async with connect(app) as state:
            services = app.state.services
            app.state.services = replace(services, jobs=replace(services.jobs, timing=TIMING))
            yield state

    app.router.lifespan_context = with_short_limits
    return app


def __getattr__(name: str) -> Any:
    if name == "app":
        return chaos_app()
    raise AttributeError(name)
