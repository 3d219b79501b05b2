"""The inference server as a child process, and a client of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

TOKEN = "inference-token"


@contextmanager
def inference_server(data_dir: Path) -> Iterator[httpx.Client]:
    """A client that presents the token. The server is gone afterwards."""
    port = _free_port()
    environment = os.environ | {
        "FINEFLOW_INFERENCE_TOKEN": TOKEN,
        "FINEFLOW_DATA_DIR": str(data_dir),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "modal_app.serve", "--port", str(port)]
    with (
        subprocess.Popen(command, env=environment) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"authorization": f"Bearer {TOKEN}"},
            timeout=60,
            trust_env=False,
        ) as client,
    ):
        try:
            _wait_until_up(client)
            yield client
        finally:
            process.terminate()
            process.wait(15)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(client: httpx.Client) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            client.get("/health").raise_for_status()
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the inference server did not come up"
            time.sleep(0.05)


def answer(client: httpx.Client, model: str, question: str) -> str:
    """What the model says to one question."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 96}
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    content: str = response.json()["choices"][0]["message"]["content"]
    return content
