"""Turns the table of functions into routes. Every request takes the same way: who calls, how often, what
is asked, then the handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
import structlog
from fastapi import Body, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import BaseModel, ValidationError

from functions.auth import SECRET_HEADER, Caller, CallerKind
from functions.context import Context, Services
from functions.messages import ErrorBody, Signed
from functions.registry import FUNCTIONS, Function, Shape
from shared.errors import InvalidRequest

PREFIX = "/functions/v1"
# For the description only: who calls is checked in _admitted, which also knows the secret of the service.
_BEARER = HTTPBearer(scheme_name="bearer", description="An access token of Supabase Auth.", auto_error=False)
_SIGNATURE = APIKeyHeader(
    name="webhook-signature", scheme_name="signature", description="Of Standard Webhooks.", auto_error=False
)
Endpoint = Callable[..., Awaitable[Any]]
_WRONG: dict[str, Any] = {"description": "What went wrong.", "model": ErrorBody}
# By name: a model would be described in the form of the stream, and its errors are JSON.
_ERROR_BODY = {"schema": {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}}
_STREAM_WRONG = {"description": "What went wrong.", "content": {"application/json": _ERROR_BODY}}

# No proxy may keep events back or remember them.
_STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


def add_functions(app: FastAPI) -> None:
    """Each function answers at its name, and the table of them at the prefix."""
    for function in FUNCTIONS.values():
        _ADD[function.shape](app, function)
    app.add_api_route(f"{PREFIX}/", _index, include_in_schema=False)
    app.add_api_route(f"{PREFIX}/health", _health, include_in_schema=False)


def _add_json(app: FastAPI, function: Function) -> None:
    async def endpoint(request: Request, body: Any, caller: Any) -> Any:
        return await function.handle(body, _context(request, function, caller))

    # FastAPI reads annotations; these are known only here.
    endpoint.__annotations__ = {
        "request": Request,
        "body": Annotated[function.request, Body()],
        "caller": Annotated[Caller, Depends(_admitted(function))],
        "return": function.response,
    }
    _add(app, function, endpoint, status_code=function.status)


def _add_stream(app: FastAPI, function: Function) -> None:
    async def endpoint(request: Request, caller: Any) -> Any:
        asked = dict(request.query_params) | await _json_object(request)
        if "last-event-id" in request.headers:
            asked["lastEventId"] = request.headers["last-event-id"]
        lines = await function.handle(_parsed(function, asked), _context(request, function, caller))
        return Response(status_code=204) if lines is None else EventStream(lines, headers=_STREAM_HEADERS)

    endpoint.__annotations__ = {
        "request": Request,
        "caller": Annotated[Caller, Depends(_admitted(function))],
        "return": Any,
    }
    options: dict[str, Any] = {"response_model": None, "response_class": EventStream}
    described = _query(function) | {"x-data-of-events": function.response.model_json_schema()}
    _add(app, function, endpoint, wrong=_STREAM_WRONG, openapi_extra=described, **options)
    # An EventSource, and everything else that only reads, asks with GET.
    app.add_api_route(
        f"{PREFIX}/{function.name}", endpoint, methods=["GET"], include_in_schema=False, **options
    )


def _add_signed(app: FastAPI, function: Function) -> None:
    async def endpoint(request: Request) -> Any:
        context = _context(request, function, Caller(CallerKind.PROVIDER))
        query = _parsed(function, dict(request.query_params))
        return await function.handle(Signed(query, await request.body(), dict(request.headers)), context)

    endpoint.__annotations__ = {"request": Request, "return": function.response}
    _add(app, function, endpoint, scheme=_SIGNATURE, openapi_extra=_query(function))


_ADD = {Shape.JSON: _add_json, Shape.STREAM: _add_stream, Shape.SIGNED: _add_signed}


def _add(
    app: FastAPI,
    function: Function,
    endpoint: Endpoint,
    *,
    scheme: Any = _BEARER,
    wrong: dict[str, Any] = _WRONG,
    **options: Any,
) -> None:
    app.add_api_route(
        f"{PREFIX}/{function.name}",
        endpoint,
        methods=["POST"],
        name=function.name,
        operation_id=function.name,
        summary=(function.handle.__doc__ or "").strip().splitlines()[0],
        description=f"Called by: {', '.join(sorted(function.callers))}. A second delivery is harmless: "
        f"{function.redelivery}.",
        dependencies=[Depends(scheme)],
        responses={"default": wrong},
        **options,
    )


def _context(request: Request, function: Function, caller: Caller) -> Context:
    structlog.contextvars.bind_contextvars(function=function.name, caller=caller.kind.value)
    return Context(request.app.state.services, caller)


def _admitted(function: Function) -> Callable[[Request], Any]:
    async def admit(request: Request) -> Caller:
        services: Services = request.app.state.services
        caller = await services.authenticator.caller(
            function.callers, request.headers.get("authorization"), request.headers.get(SECRET_HEADER)
        )
        if caller.kind == CallerKind.USER:
            limit = function.calls_per_minute or services.settings.rate_limit_per_minute
            await services.count_call(f"{function.name}:{caller.user_id}", limit)
        return caller

    return admit


async def _json_object(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("The body is not JSON that can be read.") from error
    if not isinstance(found, dict):
        raise InvalidRequest("The body is not a JSON object.")
    return found


def _parsed(function: Function, values: dict[str, Any]) -> BaseModel:
    try:
        return function.request.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_context=False)) from None


def _query(function: Function) -> dict[str, Any]:
    schema = function.request.model_json_schema()
    required = schema.get("required", [])
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": field}
            for name, field in schema["properties"].items()
        ]
    }


async def _health() -> dict[str, str]:
    return {"status": "ok"}


async def _index() -> dict[str, Any]:
    return {
        "openapi": f"{PREFIX}/openapi.json",
        "functions": [
            {"name": f.name, "callers": sorted(f.callers), "secondDelivery": f.redelivery}
            for f in FUNCTIONS.values()
        ],
    }
