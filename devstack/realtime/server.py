"""`python -m devstack.realtime.server --port N`: the Realtime stand-in on loopback.

GET /health answers 200 once the change stream is live, else 503. Clients connect to
/realtime/v1/websocket?apikey=KEY&vsn=VERSION.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from devstack.realtime.connection import Connection
from devstack.realtime.hub import Hub
from devstack.realtime.protocol import VERSIONS
from devstack.realtime.tokens import Identity, TokenRefused, Tokens

SOCKET_PATH = "/realtime/v1/websocket"
MAX_FRAME_BYTES = 1024 * 1024
OPEN_TIMEOUT_SECONDS = 5
PING_SECONDS = 20
GOODBYE_SECONDS = 0.2
SHUTDOWN_SECONDS = 0.3
log = logging.getLogger("devstack.realtime.server")  # run as a program, __name__ is no name


class Settings(BaseSettings):
    """What the server needs, from the environment."""

    database_url: SecretStr = Field(validation_alias="FINEFLOW_DATABASE_URL")
    jwt_secret: SecretStr = Field(validation_alias="SUPABASE_JWT_SECRET")
    publishable_key: SecretStr = Field(validation_alias="SUPABASE_PUBLISHABLE_KEY")
    secret_key: SecretStr = Field(validation_alias="SUPABASE_SECRET_KEY")


class RealtimeServer:
    """Answers HTTP and opens sockets over one hub."""

    def __init__(self, settings: Settings) -> None:
        self.hub = Hub(settings.database_url.get_secret_value())
        self._tokens = Tokens(settings.jwt_secret, settings.publishable_key, settings.secret_key)

    async def listen(self, port: int) -> Server:
        """Listens on loopback; port 0 takes a free one. Raises OSError when the port is taken."""
        quiet = logging.getLogger(f"{log.name}.websockets")
        quiet.setLevel(logging.CRITICAL)  # it logs a traceback for each port probe
        return await serve(
            self._converse,
            "127.0.0.1",
            port,
            process_request=self._answer,
            compression=None,  # costs more than it saves on loopback
            open_timeout=OPEN_TIMEOUT_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            close_timeout=GOODBYE_SECONDS,
            max_size=MAX_FRAME_BYTES,
            server_header=None,
            logger=quiet,
        )

    def _answer(self, socket: ServerConnection, request: Request) -> Response | None:
        url = urlsplit(request.path)
        if url.path == "/health":
            if self.hub.is_live:
                return _json(HTTPStatus.OK, {"status": "ok"})
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "no change stream"})
        if url.path != SOCKET_PATH:
            return _json(HTTPStatus.NOT_FOUND, {"error": "Not found"})
        try:
            self._caller(request)
        except TokenRefused as error:
            return _json(HTTPStatus.UNAUTHORIZED, {"error": error.reason})
        except ValueError as error:
            return _json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        return None

    def _caller(self, request: Request) -> tuple[str, Identity]:
        """The protocol version and the identity of the API key. Raises TokenRefused and ValueError."""
        query = {name: values[-1] for name, values in parse_qs(urlsplit(request.path).query).items()}
        version = query.get("vsn", VERSIONS[0])
        if version not in VERSIONS:
            raise ValueError(f"vsn must be one of {', '.join(VERSIONS)}")
        return version, self._tokens.of_key(request.headers.get("x-api-key") or query.get("apikey"))

    async def _converse(self, socket: ServerConnection) -> None:
        assert socket.request is not None  # the handshake is over
        try:
            version, identity = self._caller(socket.request)
            await Connection(socket, version, identity, self.hub, self._tokens).run()
        except Exception:
            log.exception("a socket is closed after an unexpected error")


def _json(status: HTTPStatus, body: dict[str, str]) -> Response:
    content = json.dumps(body).encode()
    headers = Headers(
        {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, content)


async def run(settings: Settings, port: int) -> None:
    """Serves until SIGTERM or SIGINT; all sockets are closed within a second of it."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    realtime = RealtimeServer(settings)
    server = await realtime.listen(port)
    log.info("listening on port %d", port)
    tasks = [asyncio.create_task(realtime.hub.run()), asyncio.create_task(realtime.hub.close_expired())]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
    server.close()
    for task in tasks:
        task.cancel()
    # What has not said goodbye by then is cancelled with the event loop.
    await asyncio.wait([asyncio.create_task(server.wait_closed()), *tasks], timeout=SHUTDOWN_SECONDS)
    await realtime.hub.database.close()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(run(Settings(), arguments.port))


if __name__ == "__main__":
    main()
