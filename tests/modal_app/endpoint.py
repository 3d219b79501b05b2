"""report-training as trainers see it, on loopback: numbered reports are stored once, in their order."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from uuid import UUID

from shared.training.model_files import ModelFiles
from shared.training.spec import (
    ModelPlaces,
    Place,
    ReportBatch,
    ReportReceipt,
    RunSpec,
    TrainerReport,
    TrainerWork,
)

Mood = Literal["well", "away", "deaf", "cutting", "hanging", "stolen"]
# What becomes of a piece of a model: taken; 503; the connection is cut; its address has expired; or
# nothing is said until the test ends.
Fate = Literal["taken", "503", "cut", "expired", "hanging"]


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
        self.stores_model = False
        self.too_large = False  # what is said of the model
        self.fates: list[Fate] = []  # of the next pieces; afterwards each is taken
        self.pieces: dict[str, bytes] = {}
        self.puts: list[str] = []  # the sha256 of each piece that was begun
        self.asked_for_places = 0
        self.base: dict[str, bytes] = {}  # pieces of the model that the run starts from
        self.base_fates: list[Fate] = []  # of the next ones that are fetched; afterwards each is sent
        self.base_gets: list[str] = []
        self.asked_for_base: list[list[str]] = []
        self.ended = threading.Event()
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
                stores_model=self.stores_model,
            )
        return ReportReceipt(
            accepted_seq=self.stored[-1].seq,
            cancel_requested=self.cancel_requested,
            work=work,
            model_places=self._places(batch.model_files) if batch.model_files else None,
            base_places=self._base_places(batch.base_pieces),
        )

    def _base_places(self, pieces: list[str]) -> list[Place]:
        if pieces:
            self.asked_for_base.append(pieces)
        turn = len(self.asked_for_base)
        return [Place(sha256=sha256, url=f"{self.url}/{turn}/{sha256}") for sha256 in pieces]

    def give_piece(self, turn: int, sha256: str) -> tuple[int, bytes] | None:
        """Status and content of a piece of the base; None: the connection is cut half-way."""
        self.base_gets.append(sha256)
        fate = self.base_fates.pop(0) if self.base_fates else "taken"
        if fate == "hanging":
            self.ended.wait()
        if fate in ("cut", "hanging"):
            return None
        if fate == "expired" or turn < len(self.asked_for_base):
            return 400, b'{"error": "InvalidJWT"}'
        return (503, b"") if fate == "503" else (200, self.base[sha256])

    def _places(self, files: ModelFiles) -> ModelPlaces:
        self.asked_for_places += 1
        missing = {sha256: size for sha256, size in files.pieces().items() if sha256 not in self.pieces}
        if not missing:
            return ModelPlaces(missing_bytes=0, artifact_path=f"storage:{files.sha256}")
        places = [Place(sha256=sha256, url=f"{self.url}/{sha256}") for sha256 in list(missing)[:3]]
        return ModelPlaces(missing_bytes=sum(missing.values()), places=places)

    def take_piece(self, sha256: str, read: Callable[[], bytes]) -> int | None:
        """The status of the answer; None: the connection is cut."""
        with self._storing:
            self.puts.append(sha256)
            fate = self.fates.pop(0) if self.fates else "taken"
        if fate == "hanging":
            self.ended.wait()
        if fate in ("cut", "hanging"):
            return None
        content = read()
        if fate != "taken":
            return 400 if fate == "expired" else 503
        assert hashlib.sha256(content).hexdigest() == sha256
        self.pieces[sha256] = content
        return 200


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
            if state.too_large and b'"modelFiles":{' in body:
                error = {"code": "artifact_too_large", "message": "Raise the limit.", "details": None}
                return self._answer(413, {"error": error})
            receipt = state.take(body)
            if receipt is None:
                return self._answer(409, {"error": {"code": "claim_lost", "message": "", "details": None}})
            if state.mood == "deaf":
                self.close_connection = True
                return None
            return self._answer(200, receipt.model_dump(mode="json", by_alias=True))

        def do_GET(self) -> None:
            turn, _, sha256 = self.path.removeprefix("/functions/v1/report-training/").partition("/")
            if turn.isdigit():
                given = state.give_piece(int(turn), sha256)
                if given is None:
                    self._cut(state.base[sha256])
                    return None
                return self._send(*given)
            state.downloads += 1
            rows = state.held_out if self.path.endswith("/validation.jsonl") else state.rows
            return self._answer(404, {}) if rows is None else self._send(200, rows)

        def do_PUT(self) -> None:
            size = int(self.headers["content-length"])
            status = state.take_piece(self.path.rpartition("/")[2], lambda: self.rfile.read(size))
            if status is None:
                self.close_connection = True
                return None
            return self._answer(status, {"error": "InvalidJWT"} if status == 400 else {})

        def _cut(self, content: bytes) -> None:
            with suppress(ConnectionError):
                self.send_response(200)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
            self.close_connection = True

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
    state.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()
