"""Anthropic's API on loopback: the list of models, messages, and batches of messages.

    with FakeAnthropic() as fake:
        fake.url, fake.api_key
        fake.answer("4")                  the next text; otherwise `reply` or one made up, by the schema
        fake.disturb("generate", OVERLOADED)
        fake.end_batches()                what was submitted is processed

Contract: platform.claude.com/docs/en/api/messages, /api/errors, /api/rate-limits, /api/versioning and
/build-with-claude/structured-outputs and /batch-processing (2026-11).
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from tests.fakes.http import FakeServer, Fault, Handler

API_KEY = "sk-ant-canary-0123456789abcdef"
MODEL = "claude-haiku-5-5"
VERSIONS = ("2023-06-01", "2026-10-21")
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
_KNOWN_FIELDS = frozenset(
    ["model", "max_tokens", "messages", "system", "metadata", "output_config", "stop_sequences", "stream",
     "thinking", "tools", "tool_choice", "service_tier"]
)  # fmt: skip
_SAMPLING = ("temperature", "top_p", "top_k")
_UNKNOWN_BOUNDS = frozenset(
    ["minimum", "maximum", "multipleOf", "minLength", "maxLength", "maxItems", "uniqueItems"]
)
_SAMPLES = {"string": "text", "integer": 1, "number": 0.5, "boolean": True, "null": None}
Reply = Callable[[dict[str, Any]], str]  # body of a call -> text


def error_body(status: int, message: str) -> dict[str, Any]:
    kind = _KINDS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_011fake"}


OVERLOADED = Fault(status=529, body=error_body(529, "Overloaded"))


def limit_headers(remaining: int, *, limit: int = 50, reset_in_seconds: float = 1.0) -> dict[str, str]:
    """What every answer says of one limit; moments are in whole seconds, as Anthropic's are."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "date": now.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "anthropic-ratelimit-requests-limit": str(limit),
        "anthropic-ratelimit-requests-remaining": str(remaining),
        "anthropic-ratelimit-requests-reset": (now + timedelta(seconds=reset_in_seconds)).strftime(
            "%Y-%m-%dT%H:%M:%SZ"
        ),
    }


class FakeAnthropic(FakeServer):
    """See the head of this file."""

    def __init__(self, *, keys: tuple[str, ...] = (API_KEY,), reply: Reply | None = None) -> None:
        super().__init__()
        self.api_key = keys[0]
        self.bodies: list[dict[str, Any]] = []
        self._keys = set(keys)
        self._reply = reply
        self._answers: deque[str] = deque()
        self.batches: dict[str, dict[str, Any]] = {}  # the oldest first
        self._requests: dict[str, list[dict[str, Any]]] = {}
        self._lines: dict[str, list[bytes]] = {}

    def answer(self, *texts: str) -> None:
        """The next calls are answered with these texts, one each."""
        self._answers.extend(texts)

    def error(self, status: int, message: str) -> dict[str, Any]:
        return error_body(status, message)

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [
            ("GET", "/v1/models", "models", self._models),
            ("POST", "/v1/messages", "generate", self._messages),
            ("POST", "/v1/messages/batches", "submit", self._submit),
            ("GET", "/v1/messages/batches", "list", self._list),
            ("GET", "/v1/messages/batches/{id}", "poll", self._poll),
            ("GET", "/v1/messages/batches/{id}/results", "results", self._results),
            ("POST", "/v1/messages/batches/{id}/cancel", "cancel", self._cancel),
        ]

    async def _models(self, request: web.Request) -> web.Response:
        models = [{"type": "model", "id": MODEL, "display_name": MODEL, "created_at": "2026-09-01T00:00:00Z"}]
        page = {"data": models, "has_more": False, "first_id": MODEL, "last_id": MODEL}
        return self.refused(request) or web.json_response(page)

    async def _messages(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        self.bodies.append(body)
        if refusal := self.refused(request):
            return refusal
        status, answer = self.message(body, request.headers["anthropic-version"])
        return web.json_response(answer, status=status)

    def message(self, body: dict[str, Any], version: str) -> tuple[int, dict[str, Any]]:
        """Status and body of what the Messages API answers to this question."""
        if objection := _objection(body, version):
            return 400, error_body(400, objection)
        if body["model"] != MODEL:
            return 404, error_body(404, f"model: {body['model']}")
        schema = (body.get("output_config") or {}).get("format", {}).get("schema")
        if self._answers:
            text = self._answers.popleft()
        else:
            text = self._reply(body) if self._reply else _made_up(schema)
        return 200, _answer(body, text)

    # --- batches ---

    def end_batches(self, spoil: Callable[[int, bytes], bytes] = lambda place, line: line) -> None:
        """What was submitted is processed; `spoil` may change a line of the results, at its place from 0."""
        for batch_id, batch in self.batches.items():
            if batch["processing_status"] == "ended":
                continue
            is_cancelled = batch["processing_status"] == "canceling"
            lines = [self._line(request, is_cancelled) for request in self._requests[batch_id]]
            # The order of the results is nobody's promise.
            self._lines[batch_id] = [spoil(place, line) for place, line in enumerate(lines)][::-1]
            batch["processing_status"], batch["ended_at"] = "ended", _moment()
            batch["results_url"] = f"{self.url}/v1/messages/batches/{batch_id}/results"
            counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
            kind = "canceled" if is_cancelled else "succeeded"
            batch["request_counts"] = counts | {kind: len(lines)}

    def add_batch(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch, as if somebody had submitted it now."""
        batch_id = f"msgbatch_{len(self.batches) + 1:02}fake"
        counts = {"processing": len(requests), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        self._requests[batch_id] = requests
        self.batches[batch_id] = batch = {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "in_progress",
            "request_counts": counts,
            "created_at": _moment(),
            "ended_at": None,
            "results_url": None,
        }
        return batch

    def _line(self, request: dict[str, Any], is_cancelled: bool) -> bytes:
        if is_cancelled:
            result: dict[str, Any] = {"type": "canceled"}
        else:
            status, answer = self.message(request["params"], VERSIONS[-1])
            result = (
                {"type": "succeeded", "message": answer}
                if status == 200
                else {"type": "errored", "error": answer}
            )
        return json.dumps({"custom_id": request["custom_id"], "result": result}).encode()

    async def _submit(self, request: web.Request) -> web.Response:
        if refusal := self.refused(request):
            return refusal
        requests = (await request.json())["requests"]
        names = [one["custom_id"] for one in requests]
        if len(set(names)) != len(names) or not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", n) for n in names):
            message = "requests: custom_id must be unique and match ^[a-zA-Z0-9_-]{1,64}$"
            return web.json_response(error_body(400, message), status=400)
        return web.json_response(self.add_batch(requests))

    async def _list(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.batches.values()))
        after = request.query.get("after_id")
        start = next((i + 1 for i, batch in enumerate(newest) if batch["id"] == after), 0)
        page = newest[start : start + int(request.query.get("limit", 20))]
        body = {"data": page, "has_more": start + len(page) < len(newest)}
        return self.refused(request) or web.json_response(
            body | {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
        )

    async def _poll(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response(error_body(404, "batch not found"), status=404)
        return self.refused(request) or web.json_response(batch)

    async def _results(self, request: web.Request) -> web.Response:
        lines = self._lines.get(request.match_info["id"])
        if lines is None:
            return web.json_response(error_body(404, "no results yet"), status=404)
        return self.refused(request) or web.Response(
            body=b"\n".join(lines) + b"\n", content_type="application/x-jsonl"
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        if batch["processing_status"] == "in_progress":
            batch["processing_status"] = "canceling"
        return self.refused(request) or web.json_response(batch)

    def refused(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix(
            "Bearer "
        )
        if key not in self._keys:
            return web.json_response(error_body(401, "invalid x-api-key"), status=401)
        if request.headers.get("anthropic-version") not in VERSIONS:
            message = "anthropic-version: header is required"
            return web.json_response(error_body(400, message), status=400)
        return None


def _moment() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _objection(body: dict[str, Any], version: str) -> str | None:
    """What is wrong with a question; None: nothing."""
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            return f"{name}: Field required"
    if version >= "2026-10-21" and (sampling := [name for name in _SAMPLING if name in body]):
        return f"{sampling[0]}: Extra inputs are not permitted"
    if unknown := set(body) - _KNOWN_FIELDS - set(_SAMPLING):
        return f"{min(unknown)}: Extra inputs are not permitted"
    if not body["messages"] or body["messages"][0]["role"] != "user":
        return "messages: at least one message is required, and the first must be the user's"
    if any(not message["content"] for message in body["messages"]):
        return "messages: text content blocks must be non-empty"
    if body.get("tool_choice", {}).get("type") in ("tool", "any"):
        return "tool_choice: this model cannot be made to call a tool"
    shape = (body.get("output_config") or {}).get("format")
    if shape is not None and (shape.get("type") != "json_schema" or "schema" not in shape):
        return "output_config.format: a json_schema with its schema is expected"
    return _schema_objection(shape["schema"]) if shape else None


def _schema_objection(schema: Any) -> str | None:
    if isinstance(schema, list):
        return next((found for item in schema if (found := _schema_objection(item))), None)
    if not isinstance(schema, dict):
        return None
    if bounds := _UNKNOWN_BOUNDS & set(schema):
        return f"output_config.format.schema: '{min(bounds)}' is not supported"
    if schema.get("minItems", 0) > 1:
        return "output_config.format.schema: minItems must be 0 or 1"
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return "output_config.format.schema: For 'object' type, 'additionalProperties' must be set to false"
    return next((found for item in schema.values() if (found := _schema_objection(item))), None)


def _answer(body: dict[str, Any], text: str) -> dict[str, Any]:
    return {
        "id": "msg_01fake",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": len(json.dumps(body["messages"])) // 4 + 1,
            "output_tokens": len(text) // 4 + 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "standard",
        },
    }


def _made_up(schema: dict[str, Any] | None) -> str:
    return "4" if schema is None else json.dumps(_instance(schema))


def _instance(schema: dict[str, Any]) -> Any:
    """The smallest value that fits a schema."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind == "object":
        return {name: _instance(field) for name, field in schema.get("properties", {}).items()}
    if kind == "array":
        return [_instance(schema.get("items", {}))]
    return _SAMPLES[kind]
