"""All model clients against loopback fakes that answer in the vendors' published shapes."""

import json
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from shared.errors import ProviderRejected
from shared.generation.model_answer import examples_schema
from shared.llm.anthropic import Anthropic
from shared.llm.base import ChatModel, TryLater, Turn
from shared.llm.gemini import Gemini
from shared.llm.http_model import HttpModel
from shared.llm.openai_compatible import OpenAICompatible
from shared.llm.pace import Paced
from tests.fakes import anthropic, gemini, openai_compatible
from tests.fakes.anthropic import OVERLOADED, FakeAnthropic
from tests.fakes.gemini import FakeGemini
from tests.fakes.google_errors import exhausted
from tests.fakes.http import Fault, busy
from tests.fakes.openai_compatible import FakeChatService

TURNS = [Turn("system", "Be brief."), Turn("user", "What is 2 + 2?")]
# With bounds that not every vendor's schemas know.
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string", "minLength": 1}}, "minProperties": 1}
VENDORS = [FakeChatService, FakeGemini, FakeAnthropic]
Vendor = FakeGemini | FakeChatService | FakeAnthropic


def client_of(vendor: Vendor, api_key: str | None = None, model: str | None = None) -> ChatModel:
    key = SecretStr(api_key or vendor.api_key)
    client: HttpModel
    if isinstance(vendor, FakeGemini):
        client = Gemini(model or gemini.MODEL, key, vendor.url)
    elif isinstance(vendor, FakeAnthropic):
        client = Anthropic(model or anthropic.MODEL, key, vendor.url)
    else:
        client = OpenAICompatible(vendor.base_url, model or openai_compatible.MODEL, key)
    return Paced(client)


@pytest.fixture(params=VENDORS)
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
    if not isinstance(vendor, FakeChatService):
        assert json.loads(answer.text) == {"answer": "text"}
    await client.complete(TURNS, json_schema=examples_schema(reasoning=True))


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


async def test_the_wait_that_the_vendor_names_is_kept(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    vendor.disturb("generate", busy(0.3))
    started = time.monotonic()
    assert (await client.complete(TURNS)).text == "4"
    assert time.monotonic() - started >= 0.3


async def test_an_account_without_money_is_a_definite_no(model: tuple[Vendor, ChatModel]) -> None:
    vendor, client = model
    for status, kind in ((402, "x"), (429, "insufficient_quota"), (403, "billing_error")):
        body = {"error": {"message": "You exceeded your current quota.", "code": kind, "type": kind}}
        vendor.disturb("generate", Fault(status=status, body=body))
        with pytest.raises(ProviderRejected) as refused:
            await client.complete(TURNS)
        assert refused.value.code == "quota_used_up"
    assert vendor.calls["generate"] == 3


@pytest.mark.parametrize("make", [FakeGemini, FakeAnthropic])
async def test_a_model_that_is_not_there_is_a_definite_no(make: type[Vendor]) -> None:
    with make() as vendor:
        client = client_of(vendor, model="no-such-model")
        with pytest.raises(ProviderRejected) as refused:
            await client.complete(TURNS)
        await client.close()
    assert refused.value.code == "model_not_found"


async def test_an_overloaded_vendor_is_asked_again() -> None:
    with FakeAnthropic() as vendor:
        vendor.disturb("generate", *[OVERLOADED] * 3)  # more often than a call may fail: nobody is at fault
        client = client_of(vendor)
        assert (await client.complete(TURNS)).text == "4"
        await client.close()


async def test_gemini_is_asked_as_its_own_sdk_asks() -> None:
    from google.genai import Client, types

    with FakeGemini() as vendor:
        client = client_of(vendor)
        ours = await client.complete(TURNS, json_schema=SCHEMA)
        await client.close()
        sdk = Client(api_key=vendor.api_key, http_options=types.HttpOptions(base_url=vendor.url))
        config = types.GenerateContentConfig(
            system_instruction=TURNS[0].content,
            response_mime_type="application/json",
            response_json_schema=SCHEMA,
        )
        theirs = await sdk.aio.models.generate_content(
            model=gemini.MODEL, contents=TURNS[1].content, config=config
        )
        await sdk.aio.aclose()
        method, path, _ = vendor.requests[0]
        assert vendor.requests[1][:2] == (method, path)
        sent, wanted = vendor.bodies
        wanted["systemInstruction"].pop("role", None)
        assert sent == wanted
    assert ours.text == theirs.text


@pytest.mark.parametrize("make", VENDORS)
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
        Anthropic("m", key, "http://127.0.0.1:9"),
    ]
    for client in clients:
        with pytest.raises(TryLater):
            await client.complete(TURNS)
        await client.close()


async def test_half_a_character_is_replaced_and_a_whole_one_is_not() -> None:
    answer = b'{"choices": [{"message": {"content": "a\\ud83d b\\ude00 \\ud83d\\ude00 \\uD83D\\uDE00"}}]}'
    with FakeChatService(raw=answer) as vendor:
        client = client_of(vendor)
        assert (await client.complete(TURNS)).text == "a\ufffd b\ufffd \U0001f600 \U0001f600"
        await client.close()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": 1}]}'])
async def test_garbage_is_refused(body: bytes) -> None:
    with FakeChatService(raw=body) as vendor:
        client = client_of(vendor)
        with pytest.raises(ProviderRejected, match="unknown shape"):
            await client.complete(TURNS)
        await client.close()
