"""llama.cpp itself, as its server: it shares no code with what wrote the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_SERVE = """
import sys, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx, parameters.n_parallel = 1024, 1
parameters.cpuparams.n_threads = 1
parameters.warmup = False
parameters.use_jinja = True
parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class LlamaCpp:
    """A model that llama.cpp has loaded."""

    http: httpx.Client

    def answer(self, question: str) -> str:
        """The greedy answer, the question rendered by the template in the file."""
        body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 96}
        content: str = self._post("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        return content

    def prompt(self, messages: list[dict[str, str]]) -> str:
        """The messages under the template in the file."""
        return str(self._post("/apply-template", {"messages": messages})["prompt"])

    def token_ids(self, text: str) -> list[int]:
        """Of a prompt: with what the file says is put before it, its marks read as marks."""
        ids: list[int] = self._post(
            "/tokenize", {"content": text, "add_special": True, "parse_special": True}
        )["tokens"]
        return ids

    def next_token_logprobs(self, ids: list[int]) -> dict[int, float]:
        """The likeliest tokens after these, in nats; empty: the likeliest is no whole character."""
        body = {"prompt": ids, "n_predict": 1, "n_probs": 10, "temperature": 0, "cache_prompt": False}
        steps = self._post("/completion", body).get("completion_probabilities", [])
        return {one["id"]: one["logprob"] for step in steps for one in step["top_logprobs"]}

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.http.post(path, json=body)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


@contextmanager
def loaded(model: Path) -> Iterator[LlamaCpp]:
    """llama.cpp with this file in memory, gone afterwards."""
    command = [sys.executable, "-c", _SERVE, str(model)]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), "llama.cpp did not load the file"
            with httpx.Client(base_url=address, timeout=60, trust_env=False) as http:
                yield LlamaCpp(http)
        finally:
            process.kill()
