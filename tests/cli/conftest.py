"""A stack in one thread: it answers what a test tells it to, and remembers what it was asked."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli.backend.connection import Connection

USER = {
    "id": "00000000-0000-4000-8000-0000000000aa",
    "email": "someone@example.test",
    "aud": "authenticated",
    "app_metadata": {},
    "user_metadata": {},
    "created_at": "2026-11-20T00:00:00+00:00",
}


class LoopbackStack:
    """`answers` maps (method, path) to (status, body); a function is called for each request."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Any] = {}
        self.requests: list[tuple[str, str, bytes]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, path: str, status: int, body: Any) -> None:
        self.answers[method, path] = (status, body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stack = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.partition("?")[0]
                stack.requests.append((self.command, self.path, body))
                answer = stack.answers.get((self.command, path), (404, {"message": f"nothing at {path}"}))
                status, content = answer() if callable(answer) else answer
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = handle_any

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@pytest.fixture
def loopback() -> Iterator[LoopbackStack]:
    stack = LoopbackStack()
    thread = threading.Thread(target=stack.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stack
    stack.server.shutdown()
    stack.server.server_close()
    thread.join()


@pytest.fixture
def connection(loopback: LoopbackStack) -> Connection:
    return Connection(loopback.url, "sb_publishable_test")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment in which no stack is known; the data directory is empty."""
    for name in ("URL", "PUBLISHABLE_KEY", "EMAIL", "PASSWORD"):
        monkeypatch.delenv(f"FINEFLOW_{name}", raising=False)
        monkeypatch.delenv(f"SUPABASE_{name}", raising=False)
    monkeypatch.setenv("FINEFLOW_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
