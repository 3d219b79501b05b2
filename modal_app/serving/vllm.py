"""One model in a process of vLLM, which answers many questions at once. For a machine with a GPU."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from modal_app.serving.chat import ChatRequest, Completion, weights_of
from shared.errors import InvalidRequest, ServiceUnavailable

START_SECONDS = 900.0  # to read the weights and to compile for them
ANSWER_SECONDS = 110.0
_LOOK_SECONDS = 0.5
_NAME = "model"  # as this process calls it; its callers name the weights
_GRACE_SECONDS = 10.0


class VllmProcess:
    """`with VllmProcess(...) as model: model.complete(request)`. On loopback, and known to nobody else."""

    def __init__(self, model: str, data_dir: Path, *, start_seconds: float = START_SECONDS) -> None:
        """`model` as in ChatRequest. Raises NotFound for a directory without a model."""
        self._model = weights_of(model, data_dir.resolve())
        self._start_seconds = start_seconds
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}", timeout=ANSWER_SECONDS, trust_env=False
        )

    def __enter__(self) -> VllmProcess:
        """The model answers now. Raises ServiceUnavailable when it does not come up."""
        command = ["vllm", "serve", self._model, "--host", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen([*command, "--served-model-name", _NAME])
        deadline = time.monotonic() + self._start_seconds
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise ServiceUnavailable(
                    "vLLM did not come up with this model. The log of its container says why.",
                    code="inference_unavailable",
                )
            time.sleep(_LOOK_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def complete(self, request: ChatRequest) -> Completion:
        """The model's next turn. Raises InvalidRequest and ServiceUnavailable."""
        body = request.model_dump(exclude_none=True) | {"model": _NAME}
        try:
            response = self._http.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            raise ServiceUnavailable("vLLM did not answer in time.", code="inference_unavailable") from error
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise InvalidRequest(f"vLLM refuses the request: {response.text[:300]}")
        if response.status_code != httpx.codes.OK:
            raise ServiceUnavailable(
                f"vLLM answered {response.status_code}. The log of its container says why.",
                code="inference_unavailable",
            )
        return _completion(response.json())

    def _is_up(self) -> bool:
        try:
            return self._http.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def _completion(answer: dict[str, Any]) -> Completion:
    choice, usage = answer["choices"][0], answer["usage"]
    return Completion(
        content=choice["message"]["content"] or "",
        finish_reason="stop" if choice["finish_reason"] == "stop" else "length",
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
