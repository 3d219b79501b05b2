"""What answers at Modal: a process of vLLM, and the server before it. vLLM itself needs a GPU; here a program
of its name takes the same arguments and speaks the same protocol."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from modal_app.serve import Server
from modal_app.serving.chat import ChatMessage, ChatRequest
from modal_app.serving.fleet import Fleet
from modal_app.serving.vllm import VllmProcess
from shared.errors import InvalidRequest, NotFound, ServiceUnavailable

# `vllm serve WEIGHTS --host H --port P --served-model-name NAME`
_PROGRAM = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
assert sys.argv[1] == "serve" and sys.argv[3::2] == ["--host", "--port", "--served-model-name"], sys.argv
weights, host, port, name = sys.argv[2], *sys.argv[4::2]
if "broken" in weights:
    sys.exit(1)
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404, {})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = body["messages"][-1]["content"]
        if said == "too long" or body["model"] != name:
            return self.answer(400, {"error": {"message": "maximum context length"}})
        if said == "crash":
            return self.answer(500, {})
        message = {"role": "assistant", "content": f"{weights} heard {said}"}
        self.answer(200, {"choices": [{"message": message, "finish_reason": "stop"}],
                           "usage": {"prompt_tokens": 3, "completion_tokens": body["max_tokens"]}})
    def answer(self, code, body):
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_):
        pass
ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bin" / "vllm"
    path.parent.mkdir()
    path.with_suffix(".py").write_text(_PROGRAM)
    # Not by a line that begins with #! and the path of Python, which may have a blank in it.
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{path}.py" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[str], str]:
    """A directory with a model of this name."""

    def make(name: str) -> str:
        directory = tmp_path / "runs" / name / "artifact"
        directory.mkdir(parents=True)
        (directory / "config.json").write_text("{}")
        return str(directory)

    return make


def question(model: str, content: str) -> ChatRequest:
    return ChatRequest(model=model, messages=[ChatMessage(role="user", content=content)], max_tokens=7)


def test_a_model_answers_and_is_gone_afterwards(weights: Callable[[str], str], tmp_path: Path) -> None:
    model = weights("good")
    with VllmProcess(model, tmp_path) as vllm:
        answer = vllm.complete(question(model, "hello"))
        assert (answer.content, answer.finish_reason) == (f"{model} heard hello", "stop")
        assert (answer.prompt_tokens, answer.completion_tokens) == (3, 7)
        with pytest.raises(InvalidRequest, match="maximum context length"):
            vllm.complete(question(model, "too long"))
        with pytest.raises(ServiceUnavailable, match="500"):
            vllm.complete(question(model, "crash"))
    assert vllm._process
    assert vllm._process.returncode is not None


def test_a_model_that_does_not_come_up_is_told_at_once(weights: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="did not come up"), VllmProcess(weights("broken"), tmp_path):
        pass


@pytest.mark.parametrize("path", ["/etc", "/nowhere"])
def test_no_directory_outside_the_volume_is_read(tmp_path: Path, path: str) -> None:
    with pytest.raises(NotFound):
        VllmProcess(path, tmp_path)


async def test_the_server_asks_for_the_token_and_then_the_models_own_container(
    weights: Callable[[str], str], tmp_path: Path
) -> None:
    started: list[str] = []

    class Containers:
        """As a class of Modal is called: each model has a container."""

        def __init__(self, weights: str) -> None:
            self.weights = weights

        @property
        def complete(self) -> Containers:
            return self

        @property
        def warm(self) -> Containers:
            return self

        def remote(self, request: dict[str, Any]) -> dict[str, Any]:
            with VllmProcess(self.weights, tmp_path) as vllm:
                return json.loads(json.dumps(asdict(vllm.complete(ChatRequest.model_validate(request)))))

        def spawn(self) -> None:
            started.append(self.weights)

    app = Server(Fleet(Containers), SecretStr("right"), at_once=2).app()
    first, second = weights("first"), weights("second")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
        bodies = [question(model, "hello").model_dump() for model in (first, second)]
        refused = await http.post(
            "/v1/chat/completions", json=bodies[0], headers={"authorization": "Bearer w"}
        )
        assert refused.status_code == 401
        headers = {"authorization": "Bearer right"}
        answers = await asyncio.gather(
            *(http.post("/v1/chat/completions", json=body, headers=headers) for body in bodies)
        )
        said = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
        assert said == [f"{first} heard hello", f"{second} heard hello"]
        missing = question(str(tmp_path / "none"), "hello").model_dump()
        assert (await http.post("/v1/chat/completions", json=missing, headers=headers)).status_code == 404
        assert (await http.post("/v1/warm", json={"model": first}, headers=headers)).status_code == 202
    async with asyncio.timeout(5):
        while started != [first]:
            await asyncio.sleep(0.01)
