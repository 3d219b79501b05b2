"""The local inference server: `python -m modal_app.serve --port N`.

On loopback, OpenAI-shaped, for one caller that knows FINEFLOW_INFERENCE_TOKEN. It answers /health at
once; torch is imported when the first model is asked for, or when /v1/warm says that one soon will be.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import uvicorn
from pydantic import BaseModel, SecretStr, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from modal_app.serving.chat import Answers, ChatRequest, WarmRequest
from modal_app.serving.engine import Engine
from modal_app.settings import machine
from shared import log as logs
from shared.errors import FineFlowError, InvalidRequest, PayloadTooLarge, ServiceUnavailable, Unauthorized

MOST_BODY_BYTES = 4 << 20
MOST_WAITING = 16  # requests, the one that is answered included
GRACE_SECONDS = 2

log = logs.logger("inference")
Model = TypeVar("Model", bound=BaseModel)


class Server:
    """The routes. Worker threads do all that touches a model; the event loop never waits for it."""

    def __init__(self, engine: Answers, token: SecretStr, *, at_once: int = 1) -> None:
        """at_once: answers that the engine works on side by side."""
        self._engine = engine
        self._token = token.get_secret_value().encode()
        self._worker = ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="engine")
        self._waiting = 0

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/health", _health, methods=["GET"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/warm", self._warm, methods=["POST"]),
            ],
            exception_handlers={FineFlowError: _error, HTTPException: _http_error, Exception: _crash},
        )

    async def _chat(self, request: Request) -> JSONResponse:
        asked = await self._parsed(request, ChatRequest)
        if self._waiting >= MOST_WAITING:
            raise ServiceUnavailable(
                "Too many questions wait already. Try again soon.", code="inference_busy"
            )
        answer = await self._work(lambda: self._engine.complete(asked))
        return JSONResponse(answer.body(asked.model))

    async def _warm(self, request: Request) -> JSONResponse:
        model = (await self._parsed(request, WarmRequest)).model
        self._worker.submit(_logging_errors, lambda: self._engine.warm(model))
        return JSONResponse({"status": "warming"}, status_code=202)

    async def _work(self, job: Callable[[], Any]) -> Any:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, job)
        finally:
            self._waiting -= 1

    async def _parsed(self, request: Request, shape: type[Model]) -> Model:
        self._authorise(request)
        body = await _limited_body(request)
        try:
            return shape.model_validate_json(body or b"{}")
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            raise InvalidRequest("The request body is not valid.", details=problems) from error

    def _authorise(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._token):
            raise Unauthorized("Present the inference token as a bearer token.")


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _limited_body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise PayloadTooLarge(f"The body is over {MOST_BODY_BYTES} bytes.")
    return body


async def _error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FineFlowError)
    return JSONResponse(error.body(), status_code=error.status)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    body = FineFlowError(str(error.detail), code=f"http_{error.status_code}").body()
    return JSONResponse(body, status_code=error.status_code)


async def _crash(_: Request, error: Exception) -> JSONResponse:
    body = FineFlowError("The model could not answer. The log of the inference server says why.").body()
    return JSONResponse(body, status_code=500)


def _logging_errors(job: Callable[[], None]) -> None:
    try:
        job()
    except FineFlowError as error:
        log.warning("warm_failed", code=error.code, reason=error.message)
    except Exception:
        log.exception("warm_failed")


def main() -> int:
    """The command line. Serves until SIGTERM or SIGINT."""
    logs.configure()
    parser = argparse.ArgumentParser(prog="python -m modal_app.serve")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    token = machine().inference_token
    if token is None or not token.get_secret_value():
        sys.stderr.write("Set FINEFLOW_INFERENCE_TOKEN: without it anybody on this machine could ask.\n")
        return 2
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    engine = Engine(machine().data_dir)
    uvicorn.run(
        Server(engine, token).app(),
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    engine.stopping.set()
    # A model that is being loaded cannot be interrupted, and joining its thread would hold up the exit.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
