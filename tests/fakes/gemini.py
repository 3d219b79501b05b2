"""Google's Gemini API on loopback: the list of models, text by `generateContent`, and batches of it by files.

    with FakeGemini() as fake:
        fake.url, fake.api_key
        fake.answer("4")                        the next text; otherwise one is made up, by the schema
        fake.disturb("generate", exhausted(2))  429 as Google says it
        fake.end_batches()                      what was submitted is processed

Contract: ai.google.dev/api/models and /api/generate-content (2026-11); batches: gemini_batches.py.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.fakes.gemini_batches import GeminiBatchServer
from tests.fakes.google_errors import RPC, error_body, refuse
from tests.fakes.http import Handler

API_KEY = "AIzaSyTest-canary-0123456789abcdefghij"
MODEL = "gemini-3.8-flash"
_NO_KEY = (
    "Method doesn't allow unregistered callers (callers without established identity). Please use API Key "
    "or other form of API consumer identity to call this API."
)
_SAMPLES = {"string": "text", "integer": 1, "number": 0.5, "boolean": True, "null": None}


Reply = Callable[[dict[str, Any]], str]  # body of a call -> text


class FakeGemini(GeminiBatchServer):
    """See the head of this file."""

    def __init__(
        self, *, keys: tuple[str, ...] = (API_KEY,), port: int = 0, reply: Reply | None = None
    ) -> None:
        super().__init__(port=port)
        self.api_key = keys[0]
        self.leaked: set[str] = set()  # keys that Google has blocked
        self.bodies: list[dict[str, Any]] = []  # of generateContent
        self._keys = set(keys)
        self._answers: deque[str] = deque()
        self._reply = reply

    def answer(self, *texts: str) -> None:
        """The next calls are answered with these texts, one each."""
        self._answers.extend(texts)

    def error(self, status: int, message: str) -> dict[str, Any]:
        return error_body(status, message)

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [
            ("GET", "/{version}/models", "models", self._models),
            ("GET", "/{version}/models/{model}", "model", self._model),
            ("POST", "/{version}/models/{model}:generateContent", "generate", self._generate),
            *super().routes(),
        ]

    async def _models(self, request: web.Request) -> web.Response:
        return self.refused_key(request) or web.json_response({"models": [_model(MODEL)]})

    async def _model(self, request: web.Request) -> web.Response:
        return self.refused_key(request) or self.unknown_model(request) or web.json_response(_model(MODEL))

    async def _generate(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        self.bodies.append(body)
        if refusal := self.refused_key(request) or self.unknown_model(request):
            return refusal
        status, answer = self.content(body)
        return web.json_response(answer, status=status)

    def content(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of what is answered to this question."""
        config: dict[str, Any] = body.get("generationConfig") or {}
        schema = config.get("responseJsonSchema") or config.get("responseSchema")
        if not body.get("contents"):
            return 400, error_body(400, "* GenerateContentRequest.contents: contents is not specified")
        if schema and config.get("responseMimeType") != "application/json":
            return 400, error_body(400, "A response schema needs the response mime type application/json.")
        if self._answers:
            text = self._answers.popleft()
        else:
            text = self._reply(body) if self._reply else _made_up(schema)
        return 200, _answer(body, text)

    def refused_key(self, request: web.Request) -> web.Response | None:
        key = request.headers.get("x-goog-api-key") or request.query.get("key")
        if key is None:
            return refuse(403, _NO_KEY)
        if key in self.leaked:
            return refuse(403, "Your API key was reported as leaked. Please use another API key.")
        if key in self._keys:
            return None
        why = {"@type": f"{RPC}.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        return refuse(400, "API key not valid. Please pass a valid API key.", why)

    def unknown_model(self, request: web.Request) -> web.Response | None:
        model, version = request.match_info["model"], request.match_info.get("version", "v1beta")
        if model == MODEL:
            return None
        return refuse(404, f"models/{model} is not found for API version {version}.")


def _model(name: str) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "displayName": name,
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens", "batchGenerateContent"],
    }


def _answer(body: dict[str, Any], text: str) -> dict[str, Any]:
    asked, answered = _tokens(json.dumps(body["contents"])), _tokens(text)
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {
            "promptTokenCount": asked,
            "candidatesTokenCount": answered,
            "totalTokenCount": asked + answered,
        },
        "modelVersion": MODEL,
    }


def _tokens(text: str) -> int:
    return len(text) // 4 + 1


def _made_up(schema: dict[str, Any] | None) -> str:
    return "4" if schema is None else json.dumps(_instance(schema, schema))


def _instance(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """The smallest value that fits a JSON schema, or Google's own dialect of it with types in capitals."""
    if "$ref" in schema:
        return _instance(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _instance(schema["anyOf"][0], root)
    kind = str(schema.get("type", "string")).lower()
    if kind == "object":
        fields: dict[str, Any] = schema.get("properties", {})
        return {name: _instance(field, root) for name, field in fields.items()}
    if kind == "array":
        return [_instance(schema.get("items", {}), root)] * max(1, schema.get("minItems", 1))
    return _SAMPLES[kind]
