"""A database that is away is told from one that refuses, whoever says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from shared.db import APIError, Database, http_client
from shared.errors import ServiceUnavailable
from tests.fakes.http import FakeServer, Fault, Handler


class FakePostgrest(FakeServer):
    """Answers the RPC f with 1, and any other name as the gateway whose status it ends with."""

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [("POST", "/rest/v1/rpc/{name}", "rpc", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "f":
            return web.json_response(1)
        return web.Response(status=int(name[-3:]), text="<html>upstream</html>", content_type="text/html")


@pytest.fixture
def postgrest() -> Iterator[FakePostgrest]:
    with FakePostgrest() as fake:
        yield fake


async def _ask(fake: FakePostgrest, fault: Fault | None = None, function: str = "f") -> Any:
    if fault:
        fake.disturb("rpc", fault)
    async with http_client() as http:
        return await Database(fake.url, api_key="k", bearer="k", http=http).call(function)


def _error(status: int, code: str) -> Fault:
    return Fault(status=status, body={"code": code, "message": "m", "details": None, "hint": None})


# PostgREST 12 (its page "Errors", read 2026-11-21): no connection, none in time, shut down, too many.
@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "PGRST000"), (503, "PGRST001"), (503, "PGRST002"), (504, "PGRST003"), (503, "57P01"),
     (503, "57P03"), (503, "08006"), (503, "53300")],
)  # fmt: skip
async def test_an_outage_is_no_refusal(postgrest: FakePostgrest, status: int, code: str) -> None:
    with pytest.raises(ServiceUnavailable) as raised:
        await _ask(postgrest, _error(status, code))
    assert raised.value.details == {"cause": code}


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_without_json_is_an_outage(postgrest: FakePostgrest, status: int) -> None:
    with pytest.raises(ServiceUnavailable):
        await _ask(postgrest, function=f"gateway_{status}")


@pytest.mark.parametrize(
    ("status", "code"), [(400, "22P02"), (409, "23505"), (500, "57014"), (404, "PGRST202")]
)
async def test_a_refusal_stays_one(postgrest: FakePostgrest, status: int, code: str) -> None:
    with pytest.raises(APIError) as raised:
        await _ask(postgrest, _error(status, code))
    assert raised.value.code == code


async def test_a_broken_connection_is_an_outage(postgrest: FakePostgrest) -> None:
    with pytest.raises(ServiceUnavailable):
        await _ask(postgrest, Fault(reset=True))
