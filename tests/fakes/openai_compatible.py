"""A service with OpenAI's chat completions and nothing else: the list of models, and text.

with FakeChatService() as fake:
    fake.base_url, fake.api_key
"""

from __future__ import annotations

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
        self, *, keys: tuple[str, ...] = (API_KEY,), reply: Reply | None = None, raw: bytes | None = None
    ) -> None:
        super().__init__()
        self._reply = reply
        self.api_key = keys[0]
        self.bodies: list[dict[str, Any]] = []
        self._keys = set(keys)
        self._raw = raw

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [
            ("GET", "/v1/models", "models", self._models),
            ("POST", "/v1/chat/completions", "generate", self._complete),
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
