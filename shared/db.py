"""The database as one caller sees it, over PostgREST.

Works the same on hosted Supabase and on the embedded stack: an address and keys are enough. What
must be atomic is a SQL function, called by `call`.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import httpx
import stamina
from postgrest import AsyncPostgrestClient
from postgrest.exceptions import APIError

from shared.errors import ServiceUnavailable

Row = dict[str, Any]
PAGE_ROWS = 1000  # PostgREST's usual max_rows: a larger page is cut silently

# Only "never arrived" is repeated: after a read timeout a write may have happened.
_NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Not a refusal: PostgREST has no connection, Postgres starts, ends or is full, a gateway reached nobody.
_AWAY = re.compile(r"PGRST00[0-3]|57P0[1-3]|08...|53300|50[234]")


class _Query(Protocol):
    async def execute(self) -> Any: ...


def http_client(timeout_seconds: float = 15) -> httpx.AsyncClient:
    """One pool of connections, to be shared by all callers of a process."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=50)
    return httpx.AsyncClient(timeout=timeout_seconds, limits=limits)


class Database:
    """PostgREST as one identity: a user under RLS, or the service."""

    def __init__(self, url: str, *, api_key: str, bearer: str, http: httpx.AsyncClient) -> None:
        self._client = AsyncPostgrestClient(
            f"{url.rstrip('/')}/rest/v1",
            headers={"apikey": api_key, "Authorization": f"Bearer {bearer}"},
            http_client=http,
        )

    async def run(self, query: _Query) -> Any:
        """The response of a built query. Raises ServiceUnavailable when the database does not answer,
        and postgrest's APIError when it refuses."""
        try:
            async for attempt in stamina.retry_context(
                on=_NEVER_ARRIVED, attempts=4, timeout=10, wait_initial=0.1, wait_max=2
            ):
                with attempt:
                    return await query.execute()
        except httpx.HTTPError as error:
            raise _away(type(error).__name__) from error
        except APIError as error:
            if _AWAY.fullmatch(str(error.code)):
                raise _away(str(error.code)) from error
            raise
        raise AssertionError("unreachable: retry_context returns or raises")

    def table(self, name: str) -> Any:
        """postgrest's builder, for queries that the methods below do not cover."""
        return self._client.table(name)

    async def find(self, table: str, columns: str = "*", **equals: Any) -> Row | None:
        """The first row with these values; None when there is none, or none that the caller may see."""
        query = self.table(table).select(columns)
        for column, value in equals.items():
            query = query.eq(column, str(value))
        rows: list[Row] = (await self.run(query.limit(1))).data
        return rows[0] if rows else None

    async def insert(self, table: str, row: Row) -> Row:
        """The inserted row."""
        rows: list[Row] = (await self.run(self.table(table).insert(row))).data
        return rows[0]

    async def call(self, function: str, **parameters: Any) -> Any:
        """What a SQL function returns; its parameters are named p_<name>."""
        named = {f"p_{name}": value for name, value in parameters.items()}
        return (await self.run(self._client.rpc(function, named))).data


def _away(cause: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        "The database did not answer. Try again in a moment.",
        code="database_unavailable",
        details={"cause": cause},
    )


__all__ = ["PAGE_ROWS", "APIError", "Database", "Row", "http_client"]
