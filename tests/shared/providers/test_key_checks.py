"""What a provider's answer says of a key, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.config import Settings
from shared.errors import (
    InvalidRequest,
    ProviderBusy,
    ProviderError,
    ProviderKeyInvalid,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.keys.store import OpenedKey
from shared.providers import key_checks
from shared.providers.base import KeyFacts
from shared.providers.key_checks import check
from tests.fakes import gemini as google
from tests.fakes.gemini import FakeGemini
from tests.fakes.google_errors import exhausted
from tests.fakes.http import Fault
from tests.fakes.openai_compatible import FakeChatService
from tests.shared.providers.scripted import ScriptedProvider

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"  # a shape that no pattern knows


def settings(**changed: object) -> Settings:
    return Settings.model_validate(
        {
            "supabase_url": "http://127.0.0.1:1",
            "supabase_publishable_key": "p",
            "supabase_secret_key": "s",
            "api_key_encryption_secret": "x" * 32,
            "function_secret": "y" * 16,
            "data_dir": Path("unused"),
        }
        | changed
    )


HOSTED = {"supabase_url": "https://project.supabase.example"}


@pytest.fixture
def gemini() -> Iterator[FakeGemini]:
    with FakeGemini(keys=(google.API_KEY, KEY)) as fake:
        yield fake


@pytest.fixture
def service() -> Iterator[FakeChatService]:
    with FakeChatService() as fake:
        yield fake


async def ask_gemini(fake: FakeGemini, key: str = KEY) -> KeyFacts:
    return await check("gemini", OpenedKey(SecretStr(key)), {}, settings(gemini_base_url=fake.url))


async def ask_service(base_url: str, key: str = KEY, **changed: object) -> KeyFacts:
    return await check("openai_compatible", OpenedKey(SecretStr(key), base_url), {}, settings(**changed))


async def test_a_key_that_works(gemini: FakeGemini, service: FakeChatService) -> None:
    assert await ask_gemini(gemini) == KeyFacts()
    assert await ask_service(service.base_url, service.api_key) == KeyFacts()
    assert KEY not in gemini.requests[0][1], "the key travels in a header, never in the address"


async def test_a_key_that_google_does_not_take(gemini: FakeGemini) -> None:
    with pytest.raises(ProviderKeyInvalid, match="400: API key not valid"):
        await ask_gemini(gemini, "AIzaWrong-0123456789")
    gemini.leaked = {KEY}
    with pytest.raises(ProviderKeyInvalid, match="403: Your API key was reported as leaked"):
        await ask_gemini(gemini)


async def test_a_refusal_that_quotes_the_key_is_told_without_it(service: FakeChatService) -> None:
    with pytest.raises(ProviderKeyInvalid, match=r"401: Incorrect API key provided: \[redacted\]"):
        await ask_service(service.base_url)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (exhausted(12), ProviderBusy),
        (Fault(status=500, body={"error": {"message": f"cannot take {KEY}"}}), ProviderUnavailable),
        (Fault(reset=True), ProviderUnavailable),
        (Fault(reset=True, executed=True), ProviderUnavailable),
        (Fault(hang=True), ProviderUnavailable),
        (Fault(status=302, headers={"location": "http://127.0.0.1:1/"}), ProviderRejected),
        (Fault(status=400, body={"error": {"message": "User location is not supported"}}), ProviderRejected),
    ],
    ids=["429", "500", "reset", "half", "hang", "redirect", "400"],
)
async def test_what_says_nothing_of_the_key(
    gemini: FakeGemini, fault: Fault, error: type[ProviderError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_checks, "TIMEOUT_SECONDS", 1)
    gemini.disturb("models", fault, fault)  # aiohttp itself repeats a GET once whose connection broke
    with pytest.raises(error) as raised:
        await ask_gemini(gemini)
    assert type(raised.value) is error
    assert KEY not in raised.value.message
    assert gemini.calls["models"] <= 2


async def test_the_wait_that_is_asked_for_is_handed_on(gemini: FakeGemini) -> None:
    gemini.disturb("models", exhausted(12))
    with pytest.raises(ProviderBusy) as busy:
        await ask_gemini(gemini)
    assert busy.value.retry_after_seconds == 12


async def test_an_address_that_is_no_service_validates_no_key(service: FakeChatService) -> None:
    with pytest.raises(ProviderRejected, match="Check baseUrl") as refused:
        await ask_service(f"{service.url}/elsewhere")
    assert refused.value.code == "not_a_model_service"
    with pytest.raises(ProviderUnavailable):
        await ask_service("http://127.0.0.1:9/v1")


async def test_a_hosted_server_reaches_nothing_private(service: FakeChatService) -> None:
    for base_url in (service.base_url, service.base_url.replace("127.0.0.1", "localhost")):
        with pytest.raises(ProviderRejected, match="not a public address"):
            await ask_service(base_url, service.api_key, **HOSTED)
        trainer = {"t": ScriptedProvider(name="t", key="openai")}
        with pytest.raises(ProviderRejected, match="not a public address"):
            await check("openai", OpenedKey(SecretStr(KEY), base_url), trainer, settings(**HOSTED))
    assert not service.requests
    allowed = HOSTED | {"allow_private_addresses": True}
    assert await ask_service(service.base_url, service.api_key, **allowed) == KeyFacts()


async def test_training_providers_check_their_own_keys() -> None:
    available = {"t": ScriptedProvider(name="t", key="together")}
    assert await check("together", OpenedKey(SecretStr(KEY)), available, settings()) == KeyFacts()
    with pytest.raises(InvalidRequest, match="does not train with anthropic"):
        await check("anthropic", OpenedKey(SecretStr(KEY)), available, settings())
    with pytest.raises(InvalidRequest, match="baseUrl"):
        await check("openai_compatible", OpenedKey(SecretStr(KEY)), available, settings())
