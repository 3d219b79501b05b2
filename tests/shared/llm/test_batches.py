"""One line of a batch's results that nobody would write stops none of the others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from shared.errors import ProviderRejected
from shared.llm.anthropic import Anthropic
from shared.llm.anthropic_batches import AnthropicBatches
from shared.llm.base import Completion
from shared.llm.batches import BatchState
from shared.llm.openai_batches import OpenAIBatches
from shared.llm.openai_compatible import OpenAICompatible
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.openai_compatible import FakeChatService

KEY = "sk-canary-0123456789"
ODD: list[Any] = [
    "text",
    7,
    [],
    {"message": 7},
    {"error": "text"},
    {"error": {"message": ["sk-canary-0123456789"]}},
]


def openai(odd: Any) -> bytes:
    return json.dumps(
        {"custom_id": "odd", "response": {"status_code": 400, "body": odd}, "error": odd}
    ).encode()


def anthropic(odd: Any) -> bytes:
    return json.dumps({"custom_id": "odd", "result": {"type": "errored", "error": odd}}).encode()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_an_odd_error_is_the_answer_to_its_own_question_alone(vendor: str, odd: Any) -> None:
    answer = {"content": [{"type": "text", "text": "4"}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    choice = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}}]}
    good = (
        {"custom_id": "good", "response": {"status_code": 200, "body": choice}}
        if vendor == "openai"
        else {"custom_id": "good", "result": {"type": "succeeded", "message": answer}}
    )

    async def lines(file: str) -> AsyncIterator[bytes]:
        yield openai(odd) if vendor == "openai" else anthropic(odd)
        yield b"no JSON"
        yield json.dumps(good).encode()

    with FakeChatService() as chat, FakeAnthropic() as claude:
        batches: OpenAIBatches | AnthropicBatches
        if vendor == "openai":
            batches = OpenAIBatches(client := OpenAICompatible(chat.base_url, "m", None))
        else:
            batches = AnthropicBatches(client := Anthropic("m", SecretStr("sk-ant-any-key"), claude.url))
        client.lines = lines
        found = {name: result async for name, result in batches.results(BatchState(True, ("file",)))}
        await client.close()
    assert isinstance(found["odd"], ProviderRejected)
    assert "canary" not in found["odd"].message
    assert isinstance(found["good"], Completion)
