"""Both model clients against loopback servers that answer in the vendors' published shapes."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.errors import ProviderRejected
from shared.llm.base import ChatModel, Completion, TryLater, Turn
from shared.llm.gemini import Gemini
from shared.llm.openai_compatible import OpenAICompatible

TURNS = [Turn("system", "Be brief."), Turn("user", "What is 2 + 2?")]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}}
KEY = SecretStr("sk-canary-0123456789abcdef")


@dataclass
class Vendor:
    """Answers with what is queued, then with success."""

    url: str = ""
    success: dict[str, Any] = field(default_factory=dict)
    queued: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, dict(request.headers), await request.json()))
        if not self.queued:
            return web.json_response(self.success)
        status, body, headers = self.queued.pop(0)
        return web.Response(status=status, body=body, headers=headers, content_type="application/json")


def refusal(status: int, message: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps({"error": {"code": status, "message": message}}).encode(), headers


OPENAI = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
}
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "4"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 10},
}
MAKERS: dict[str, tuple[dict[str, Any], Callable[[str], ChatModel]]] = {
    "openai_compatible": (OPENAI, lambda url: OpenAICompatible(f"{url}/v1", "tiny-chat", KEY)),
    "gemini": (GEMINI, lambda url: Gemini("gemini-3.8-flash", KEY, url)),
}


@pytest.fixture(params=MAKERS)
async def model(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Vendor, ChatModel]]:
    success, make = MAKERS[request.param]
    vendor = Vendor(success=success)
    app = web.Application()
    app.router.add_post("/{path:.*}", vendor.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    client = make(vendor.url)
    yield vendor, client
    await client.close()
    await runner.cleanup()


async def test_an_answer_and_what_it_took(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    assert await client.complete(TURNS, json_schema=SCHEMA) == Completion("4", 9, 1)
    _, headers, body = vendor.requests[0]
    assert KEY.get_secret_value() in str(headers)
    assert "Be brief." in json.dumps(body)
    assert '"answer"' in json.dumps(body), "the schema travels"


async def test_a_busy_vendor_is_asked_again(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    vendor.queued = [refusal(429, "slow down", **{"Retry-After": "0"}), refusal(503, "overloaded")]
    assert (await client.complete(TURNS)).text == "4"
    assert len(vendor.requests) == 3


async def test_a_vendor_that_stays_away_is_given_up_for_now(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    vendor.queued = [refusal(503, "overloaded")] * 9
    with pytest.raises(TryLater):
        await client.complete(TURNS)
    assert len(vendor.requests) == 3


async def test_a_refused_key_is_a_definite_no(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    vendor.queued = [refusal(401, "bad key")]
    with pytest.raises(ProviderRejected, match="401") as refused:
        await client.complete(TURNS)
    assert len(vendor.requests) == 1
    assert KEY.get_secret_value() not in str(refused.value)


async def test_nobody_at_the_address() -> None:
    for make in (lambda url: OpenAICompatible(f"{url}/v1", "m", None), lambda url: Gemini("m", KEY, url)):
        client = make("http://127.0.0.1:9")
        with pytest.raises(TryLater):
            await client.complete(TURNS)
        await client.close()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}'])
async def test_garbage_is_refused(body: bytes) -> None:
    vendor = Vendor(queued=[(200, body, {})])
    app = web.Application()
    app.router.add_post("/{path:.*}", vendor.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = OpenAICompatible(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", "m", None)
    with pytest.raises(ProviderRejected, match="unknown shape"):
        await client.complete(TURNS)
    await client.close()
    await runner.cleanup()
