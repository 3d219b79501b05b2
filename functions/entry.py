"""The functions as one ASGI app: `uvicorn functions.entry:app`. With routes.py the only file that knows
the web framework.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from functions.body_limit import BodyLimit
from functions.context import Services
from functions.routes import PREFIX, add_functions
from shared.config import Settings
from shared.config import settings as read_settings
from shared.db import APIError
from shared.errors import FineFlowError, InvalidRequest, NotFound, RateLimited
from shared.log import configure, logger, redact
from shared.providers.registry import Providers

# What supabase-js 2.119 sends from a browser, the trace headers included; what resumes a stream of events.
_HEADERS = [
    "authorization", "x-client-info", "apikey", "content-type", "x-retry-count", "x-region",
    "traceparent", "tracestate", "baggage", "last-event-id",
]  # fmt: skip
_log = logger("functions")


def create_app(settings: Settings, *, available: Providers | None = None) -> FastAPI:
    """The app over these settings; `available` replaces the providers."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        configure()
        app.state.services = Services.connect(settings, available=available)
        yield
        await app.state.services.close()

    app = FastAPI(
        title="FineFlow functions",
        version="0.1.0",
        lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    add_functions(app)
    _add_error_handlers(app)
    app.add_middleware(BodyLimit, limit_bytes=settings.request_body_limit_bytes)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST", "OPTIONS"],
        allow_headers=_HEADERS,
        expose_headers=["retry-after"],
    )
    return app


def _answer(error: FineFlowError) -> JSONResponse:
    headers = {"retry-after": str(error.retry_after_seconds)} if isinstance(error, RateLimited) else None
    return JSONResponse(redact(error.body()), error.status, headers)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(FineFlowError)
    async def known(_: Request, error: FineFlowError) -> JSONResponse:
        return _answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(_what_is_wrong(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == NotFound.status:
            return _answer(
                NotFound(f"There is no function at {request.url.path}.", code="function_not_found")
            )
        if error.status_code == 400:  # the framework's word for a body that its parser gave up on
            return _answer(InvalidRequest("The body is not JSON that can be read."))
        body = {"error": {"code": "http_error", "message": str(error.detail), "details": None}}
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(APIError)
    async def refused(_: Request, error: APIError) -> JSONResponse:
        _log.error("database refused", code=error.code, error=error.message, details=error.details)
        return _answer(FineFlowError("The database refused this. The log says why.", code="database_refused"))

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        _log.error("unexpected", exc_info=error)
        return _answer(FineFlowError("Something went wrong on our side. The log says what."))


def _what_is_wrong(error: RequestValidationError) -> InvalidRequest:
    """Every finding with its field and rule. The offending value is left out: it may be a key."""
    findings = [
        {
            "field": ".".join(str(part) for part in found["loc"] if part != "body") or None,
            "rule": found["type"],
            "message": found["msg"],
        }
        for found in error.errors()
    ]
    unknown = [str(found["field"]) for found in findings if found["rule"] == "extra_forbidden"]
    if unknown:
        return InvalidRequest(f"Unknown field: {', '.join(unknown)}.", code="unknown_field", details=findings)
    first = findings[0]
    where = f"{first['field']}: " if first["field"] else ""
    return InvalidRequest(f"{where}{first['message']}", details=findings)


def __getattr__(name: str) -> Any:
    # Built on first use, so that importing this module reads no environment.
    if name == "app":
        return create_app(read_settings())
    raise AttributeError(name)
