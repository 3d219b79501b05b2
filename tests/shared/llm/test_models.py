"""Both model clients against loopback fakes that answer in the vendors' published shapes."""

import json
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from shared.errors import ProviderRejected
from shared.llm.base import ChatModel, TryLater, Turn
from shared.llm.gemini import Gemini
from shared.llm.openai_compatible import OpenAICompatible
from tests.fakes import gemini, openai_compatible
from tests.fakes.gemini import FakeGemini, exhausted
from tests.fakes.http import Fault, busy
from tests.fakes.openai_compatible import FakeChatService

TURNS = [Turn("system", "Be brief."), Turn("user", "What is 2 + 2?")]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}}
Vendor = FakeGemini | FakeChatService


def client_of(vendor: Vendor, api_key: str | None = None) -> ChatModel:
    key = SecretStr(api_key or vendor.api_key)
    if isinstance(vendor, FakeGemini):
        return Gemini(gemini.MODEL, key, vendor.url)
    return OpenAICompatible(vendor.base_url, openai_compatible.MODEL, key)


@pytest.fixture(params=[FakeChatService, FakeGemini])
async def model(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Vendor, ChatModel]]:
    with request.param() as vendor:
        client = client_of(vendor)
        yield vendor, client
        await client.close()


async def test_an_answer_and_what_it_took(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    answer = await client.complete(TURNS)
    assert answer.text == "4"
    assert answer.prompt_tokens > 0
    assert answer.completion_tokens > 0
    assert "Be brief." in json.dumps(vendor.bodies[0])


async def test_the_schema_travels(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    answer = await client.complete(TURNS, json_schema=SCHEMA)
    assert '"answer"' in json.dumps(vendor.bodies[0])
    if isinstance(vendor, FakeGemini):
        assert json.loads(answer.text) == {"answer": "text"}


async def test_a_busy_vendor_is_asked_again(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    vendor.disturb("generate", busy(0), Fault(status=503))
    assert (await client.complete(TURNS)).text == "4"
    assert vendor.calls["generate"] == 3


async def test_a_vendor_that_stays_away_is_given_up_for_now(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    vendor.disturb("generate", *[Fault(status=503)] * 9)
    with pytest.raises(TryLater):
        await client.complete(TURNS)
    assert vendor.calls["generate"] == 3


async def test_a_connection_that_breaks_is_tried_later(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    vendor.disturb("generate", *[Fault(reset=True, executed=True)] * 9)
    with pytest.raises(TryLater):
        await client.complete(TURNS)


@pytest.mark.parametrize("make", [FakeChatService, FakeGemini])
async def test_a_refused_key_is_a_definite_no(make: type[Vendor]) -> None:
    wrong = "sk-canary-refused-0123456789"
    with make() as vendor:
        client = client_of(vendor, wrong)
        with pytest.raises(ProviderRejected) as refused:
            await client.complete(TURNS)
        await client.close()
        assert vendor.calls["generate"] == 1
    assert refused.value.code == "api_key_rejected"
    assert wrong not in refused.value.message


async def test_the_wait_that_google_asks_for_is_handed_on() -> None:
    with FakeGemini() as vendor:
        vendor.disturb("generate", *[exhausted(0.01)] * 2, exhausted(37))
        client = client_of(vendor)
        with pytest.raises(TryLater) as later:
            await client.complete(TURNS)
        await client.close()
    assert later.value.retry_after_seconds == 37


async def test_nobody_at_the_address() -> None:
    key = SecretStr("sk-canary-0123456789abcdef")
    clients: list[ChatModel] = [
        OpenAICompatible("http://127.0.0.1:9/v1", "m", None),
        Gemini("m", key, "http://127.0.0.1:9"),
    ]
    for client in clients:
        with pytest.raises(TryLater):
            await client.complete(TURNS)
        await client.close()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}'])
async def test_garbage_is_refused(body: bytes) -> None:
    with FakeChatService(raw=body) as vendor:
        client = client_of(vendor)
        with pytest.raises(ProviderRejected, match="unknown shape"):
            await client.complete(TURNS)
        await client.close()
