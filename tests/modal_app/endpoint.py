"""report-training as trainers see it, on loopback: numbered reports are stored once, in their order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from uuid import UUID

from shared.training.spec import ReportBatch, ReportReceipt, RunSpec, TrainerReport, TrainerWork

Mood = Literal["well", "away", "deaf", "cutting", "hanging", "stolen"]


class Endpoint:
    """Answers as its mood says.

    away: 503. deaf: stores, and drops the connection before it answers. cutting: drops it and stores nothing.
    hanging: says nothing until its mood changes. stolen: another trainer has the job.
    With `spec` set it has work for trainers that come with a ticket, and the first of them has the job.
    """

    def __init__(self) -> None:
        self.mood: Mood = "well"
        self.cancel_requested = False
        self.stored: list[TrainerReport] = []
        self.posts = 0
        self.tokens: set[str] = set()
        self.url = ""
        self.spec: RunSpec | None = None
        self.rows: bytes | None = None  # what the dataset address answers; None: 404
        self.held_out: bytes | None = None  # what the validation address answers; None: there is none
        self.downloads = 0
        self.owner: UUID | None = None
        self.provider_job_ids: list[str | None] = []  # of each claim
        self._storing = threading.Lock()

    @property
    def kinds(self) -> list[str]:
        return [report.kind for report in self.stored]

    def take(self, body: bytes) -> ReportReceipt | None:
        """None: another trainer has the job."""
        batch = ReportBatch.model_validate_json(body)
        self.owner = self.owner or batch.run_id
        if self.owner != batch.run_id and self.spec is not None:
            return None
        with self._storing:  # one that hung may come beside its own repetition
            last = self.stored[-1].seq if self.stored else 0
            self.stored += [report for report in batch.reports if report.seq > last]
        work = None
        if self.spec is not None and batch.want_work:
            self.provider_job_ids.append(batch.provider_job_id)
            spec = self.spec.model_copy(update={"run_id": batch.run_id})
            work = TrainerWork(
                spec=spec,
                dataset_url=f"{self.url}/train.jsonl",
                validation_url=f"{self.url}/validation.jsonl" if self.held_out else None,
            )
        return ReportReceipt(
            accepted_seq=self.stored[-1].seq, cancel_requested=self.cancel_requested, work=work
        )


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.posts += 1
            state.tokens.add(self.headers["authorization"])
            while state.mood == "hanging":
                time.sleep(0.02)
            if state.mood == "cutting":
                self.close_connection = True
                return None
            if state.mood == "away":
                return self._answer(503, {})
            if state.mood == "stolen":
                return self._answer(409, {"error": {"code": "claim_lost", "message": "", "details": None}})
            receipt = state.take(body)
            if receipt is None:
                return self._answer(409, {"error": {"code": "claim_lost", "message": "", "details": None}})
            if state.mood == "deaf":
                self.close_connection = True
                return None
            return self._answer(200, receipt.model_dump(mode="json", by_alias=True))

        def do_GET(self) -> None:
            state.downloads += 1
            rows = state.held_out if self.path.endswith("/validation.jsonl") else state.rows
            return self._answer(404, {}) if rows is None else self._send(200, rows)

        def _answer(self, code: int, body: object) -> None:
            self._send(code, json.dumps(body).encode())

        def _send(self, code: int, content: bytes) -> None:
            with suppress(ConnectionError):  # who waited has given up, or was killed
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
