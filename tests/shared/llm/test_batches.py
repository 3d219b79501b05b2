"""The batches of all vendors: what is odd stops nothing else, and what is not understood loses no batch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from shared.errors import ProviderRejected
from shared.llm.anthropic import Anthropic
from shared.llm.anthropic_batches import AnthropicBatches
from shared.llm.base import Completion, TryLater, Turn
from shared.llm.batches import Batches, BatchState
from shared.llm.gemini import Gemini
from shared.llm.gemini_batches import GeminiBatches
from shared.llm.http_model import HttpModel
from shared.llm.openai_batches import OpenAIBatches
from shared.llm.openai_compatible import OpenAICompatible
from tests.fakes import anthropic, gemini
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.gemini import FakeGemini
from tests.fakes.openai_compatible import FakeChatService

Vendor = FakeAnthropic | FakeGemini | FakeChatService
ODD: list[Any] = [
    "text",
    7,
    [],
    {"message": 7},
    {"error": "text"},
    {"error": {"message": ["sk-canary-0123456789"]}},
]
HALF = '"4 \\ud83d"'  # JSON of a text that ends with half a character


@pytest.fixture(params=[FakeAnthropic, FakeGemini, FakeChatService])
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    options = {"batches": True} if request.param is FakeChatService else {}
    with request.param(**options) as made:
        yield made


@pytest.fixture
async def opened(vendor: Vendor) -> AsyncIterator[tuple[HttpModel, Batches]]:
    client, batches = open_batches(vendor)
    yield client, batches
    await client.close()


def open_batches(vendor: Vendor) -> tuple[HttpModel, Batches]:
    key = SecretStr(vendor.api_key)
    if isinstance(vendor, FakeAnthropic):
        claude = Anthropic(anthropic.MODEL, key, vendor.url)
        return claude, AnthropicBatches(claude)
    if isinstance(vendor, FakeGemini):
        google = Gemini(gemini.MODEL, key, vendor.url)
        return google, GeminiBatches(google)
    service = OpenAICompatible(vendor.base_url, "m", key)
    return service, OpenAIBatches(service)


def failed_line(vendor: Vendor, odd: Any) -> str:
    if isinstance(vendor, FakeAnthropic):
        return json.dumps({"custom_id": "odd", "result": {"type": "errored", "error": odd}})
    if isinstance(vendor, FakeGemini):
        return json.dumps({"key": "odd", "error": odd})
    return json.dumps({"custom_id": "odd", "response": {"status_code": 400, "body": odd}, "error": odd})


def good_line(vendor: Vendor, text: str) -> str:
    """`text` is JSON."""
    if isinstance(vendor, FakeAnthropic):
        message = f'{{"content": [{{"type": "text", "text": {text}}}], "usage": {{}}}}'
        return f'{{"custom_id": "good", "result": {{"type": "succeeded", "message": {message}}}}}'
    if isinstance(vendor, FakeGemini):
        answer = f'{{"candidates": [{{"content": {{"parts": [{{"text": {text}}}]}}}}]}}'
        return f'{{"key": "good", "response": {answer}}}'
    answer = f'{{"choices": [{{"message": {{"content": {text}}}}}]}}'
    return f'{{"custom_id": "good", "response": {{"status_code": 200, "body": {answer}}}}}'


async def results_of(
    opened: tuple[HttpModel, Batches], *written: str
) -> dict[str, Completion | ProviderRejected]:
    client, batches = opened

    async def lines(file: str) -> AsyncIterator[bytes]:
        for line in written:
            yield line.encode()

    client.lines = lines  # no file of a fake holds such
    return {name: result async for name, result in batches.results(BatchState(True, ("file",)))}


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_error_is_the_answer_to_its_own_question_alone(
    vendor: Vendor, opened: tuple[HttpModel, Batches], odd: Any
) -> None:
    found = await results_of(
        opened, failed_line(vendor, odd), "no JSON", "7", "[]", "{}", good_line(vendor, '"4"')
    )
    assert set(found) == {"odd", "good"}
    assert isinstance(found["odd"], ProviderRejected)
    assert "canary" not in found["odd"].message
    assert isinstance(found["good"], Completion)


async def test_half_a_character_spoils_no_answer(vendor: Vendor, opened: tuple[HttpModel, Batches]) -> None:
    found = await results_of(opened, good_line(vendor, HALF))
    assert isinstance(found["good"], Completion)
    assert found["good"].text == "4 \ufffd"


async def test_an_answer_that_is_no_json_leaves_open_whether_there_is_a_batch(
    opened: tuple[HttpModel, Batches], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, batches = opened
    send = client.send

    async def garbled(method: str, url: str, **options: Any) -> Any:
        headers, content = await send(method, url, **options)
        return headers, content if "/files" in url else b"<html>"

    monkeypatch.setattr(client, "send", garbled)
    with pytest.raises(TryLater):
        await batches.submit("ours", {"q": client.body([Turn("user", "2 + 2?")], None)})
    monkeypatch.undo()
    assert await batches.find("ours", 1, 60, []) is not None
