"""A service with OpenAI's chat completions: the list of models, text, and (if `batches`) batches of them.

with FakeChatService() as fake:
    fake.base_url, fake.api_key
    fake.end_batches()              what was submitted is processed

Contract of batches: platform.openai.com/docs/api-reference/batch and /docs/guides/batch (2026-11).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.fakes.http import FakeServer, Handler

API_KEY = "sk-canary-0123456789abcdef"
MODEL = "tiny-chat"


Reply = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]  # body of a call -> status, body


class FakeChatService(FakeServer):
    """Answers `4` to everything, or what `reply` makes of the call, or the bytes `raw`, whatever they are."""

    def __init__(
        self,
        *,
        keys: tuple[str, ...] = (API_KEY,),
        reply: Reply | None = None,
        raw: bytes | None = None,
        batches: bool = False,
    ) -> None:
        super().__init__()
        self._reply = reply
        self.api_key = keys[0]
        self.bodies: list[dict[str, Any]] = []
        self._keys = set(keys)
        self._raw = raw
        self._has_batches = batches
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}  # the oldest first

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        batches: list[tuple[str, str, str, Handler]] = [
            ("POST", "/v1/files", "upload", self._upload),
            ("GET", "/v1/files/{id}/content", "results", self._content),
            ("POST", "/v1/batches", "submit", self._submit),
            ("GET", "/v1/batches", "list", self._list),
            ("GET", "/v1/batches/{id}", "poll", self._poll),
            ("POST", "/v1/batches/{id}/cancel", "cancel", self._cancel),
        ]
        return [
            ("GET", "/v1/models", "models", self._models),
            ("POST", "/v1/chat/completions", "generate", self._complete),
            *(batches if self._has_batches else []),
        ]

    async def _models(self, request: web.Request) -> web.Response:
        models = [{"id": MODEL, "object": "model", "created": 1_760_000_000, "owned_by": "us"}]
        return self._refused_key(request) or web.json_response({"object": "list", "data": models})

    async def _complete(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        if refusal := self._refused_key(request):
            return refusal
        if self._raw is not None:
            return web.Response(body=self._raw, content_type="application/json")
        status, body = self._reply(self.bodies[-1]) if self._reply else (200, completion("4"))
        return web.json_response(body, status=status)

    # --- batches ---

    def end_batches(self, spoil: Callable[[int, bytes], bytes] = lambda place, line: line) -> None:
        """What was submitted is processed; `spoil` may change a line of the results, at its place from 0."""
        for batch_id, batch in self.batches.items():
            if batch["status"] not in ("validating", "in_progress", "cancelling"):
                continue
            if batch["status"] == "cancelling":
                batch["status"] = "cancelled"
                continue
            questions = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
            lines = [spoil(place, self._line(asked)) for place, asked in enumerate(questions)]
            # The order of the results is nobody's promise.
            self.files[f"file-{batch_id}-output"] = b"\n".join(lines[::-1]) + b"\n"
            batch |= {"status": "completed", "output_file_id": f"file-{batch_id}-output"}

    def _line(self, asked: dict[str, Any]) -> bytes:
        status, body = self._reply(asked["body"]) if self._reply else (200, completion("4"))
        response = {"status_code": status, "request_id": "req_fake", "body": body}
        return json.dumps({"id": "x", "custom_id": asked["custom_id"], "response": response}).encode()

    def add_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        """A batch, as if somebody had submitted it now."""
        batch_id = f"batch_{len(self.batches) + 1:02}"
        self.batches[batch_id] = batch = {
            "id": batch_id,
            "object": "batch",
            "status": "validating",
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
        } | body
        return batch

    async def _upload(self, request: web.Request) -> web.Response:
        if refusal := self._refused_key(request):
            return refusal
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        if form["purpose"] != "batch" or not file.filename.endswith(".jsonl"):
            return web.json_response(self.error(400, "Invalid file for batch"), status=400)
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = file.file.read()
        return web.json_response({"id": file_id, "object": "file", "purpose": "batch"})

    async def _content(self, request: web.Request) -> web.Response:
        return self._refused_key(request) or web.Response(body=self.files[request.match_info["id"]])

    async def _submit(self, request: web.Request) -> web.Response:
        if refusal := self._refused_key(request):
            return refusal
        body = await request.json()
        if body["completion_window"] != "24h" or body["input_file_id"] not in self.files:
            return web.json_response(self.error(400, "Invalid batch"), status=400)
        return web.json_response(self.add_batch(body))

    async def _list(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.batches.values()))
        after = request.query.get("after")
        start = next((i + 1 for i, batch in enumerate(newest) if batch["id"] == after), 0)
        page = newest[start : start + int(request.query.get("limit", 20))]
        body = {"object": "list", "data": page, "has_more": start + len(page) < len(newest)}
        return self._refused_key(request) or web.json_response(body)

    async def _poll(self, request: web.Request) -> web.Response:
        return self._refused_key(request) or web.json_response(self.batches[request.match_info["id"]])

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch["status"] = "cancelling"
        return self._refused_key(request) or web.json_response(batch)

    def _refused_key(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key in self._keys:
            return None
        # As OpenAI does, the error quotes what it was given.
        return web.json_response(self.error(401, f"Incorrect API key provided: {key}."), status=401)


def completion(text: str, *, prompt_tokens: int = 9, completion_tokens: int = 1) -> dict[str, Any]:
    """A chat completion with this text."""
    message = {"role": "assistant", "content": text}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }
