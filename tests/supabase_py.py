"""supabase-py on a connection that is closed again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from supabase import AsyncClient, AsyncClientOptions, acreate_client


@asynccontextmanager
async def supabase_client(url: str, key: str) -> AsyncIterator[AsyncClient]:
    """A client without timers of its own. Left to make its connections itself it warns of its own options,
    and never closes them.
    """
    async with httpx.AsyncClient(timeout=30) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        client = await acreate_client(url, key, options)
        yield client
        await client.remove_all_channels()
