"""Starts the contestants, one after another, and is the report-training that ours tells."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks.training.contestant import Outcome, Work
from shared.training.spec import ReportBatch, ReportReceipt

PATIENCE_SECONDS = 1_800


def run(work: Work, **environment: str) -> Outcome:
    """What one run took, in a process of its own. Ends the benchmark when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training.contestant"],
        input=work.model_dump_json(),
        env=os.environ | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    if work.profile:
        print(done.stderr, file=sys.stderr)
    if done.returncode:
        raise SystemExit(f"{work.who} failed:\n{done.stderr[-3000:]}")
    return Outcome.model_validate_json(done.stdout.splitlines()[-1])


def device_name() -> str | None:
    """What this machine computes with, by its maker's name; None: no CUDA."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


@contextmanager
def endpoint() -> Iterator[str]:
    """The address of a report-training that takes whatever it is told."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receipt = ReportReceipt(accepted_seq=ReportBatch.model_validate_json(body).reports[-1].seq)
            answer = receipt.model_dump_json(by_alias=True).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
