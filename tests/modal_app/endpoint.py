"""report-training as trainers see it, on loopback: numbered reports are stored once, in their order."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from shared.training.spec import ReportBatch, ReportReceipt, TrainerReport

Mood = Literal["well", "away", "deaf", "stolen"]


class Endpoint:
    """Answers as its mood says.

    away: 503. deaf: stores, and drops the connection before it answers. stolen: another trainer has the job.
    """

    def __init__(self) -> None:
        self.mood: Mood = "well"
        self.cancel_requested = False
        self.stored: list[TrainerReport] = []
        self.posts = 0
        self.tokens: set[str] = set()
        self.url = ""

    @property
    def kinds(self) -> list[str]:
        return [report.kind for report in self.stored]

    def take(self, body: bytes) -> ReportReceipt:
        batch = ReportBatch.model_validate_json(body)
        last = self.stored[-1].seq if self.stored else 0
        self.stored += [report for report in batch.reports if report.seq > last]
        return ReportReceipt(accepted_seq=self.stored[-1].seq, cancel_requested=self.cancel_requested)


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.posts += 1
            state.tokens.add(self.headers["authorization"])
            if state.mood == "away":
                return self._answer(503, {})
            if state.mood == "stolen":
                return self._answer(409, {"error": {"code": "claim_lost", "message": "", "details": None}})
            receipt = state.take(body)
            if state.mood == "deaf":
                self.close_connection = True
                return None
            return self._answer(200, receipt.model_dump(by_alias=True))

        def _answer(self, code: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/functions/v1/report-training"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()
