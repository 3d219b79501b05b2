"""Anthropic says that it cannot train, and checks its keys over a real wire."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
    ProviderRunNotFound,
    ProviderUnavailable,
)
from shared.keys.store import OpenedKey
from shared.providers.anthropic import AnthropicProvider
from tests.fakes.http import FakeServer, Fault, Handler, busy
from tests.shared.providers.harness import CHAT_FILE, NOBODY, run_spec

SECRET = "sk-ant-canary-0123456789"


class FakeAnthropic(FakeServer):
    """The list of models, as its API reference has it (2026-11)."""

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [("GET", "/v1/models", "check", self._models)]

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind = "authentication_error" if status == 401 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": message}}

    async def _models(self, request: web.Request) -> web.Response:
        if request.headers.get("x-api-key") != SECRET:
            return web.json_response(self.error(401, "invalid x-api-key"), status=401)
        if request.headers.get("anthropic-version") != "2023-06-01":
            return web.json_response(self.error(400, "anthropic-version: header is required"), status=400)
        models = {"data": [], "has_more": False, "first_id": None, "last_id": None}
        return web.json_response(models, headers={"anthropic-organization-id": "org-0123"})


@pytest.fixture
def fake() -> Iterator[FakeAnthropic]:
    with FakeAnthropic() as server:
        yield server


def key(secret: str = SECRET, base_url: str | None = None) -> OpenedKey:
    return OpenedKey(SecretStr(secret), base_url)


def provider(fake: FakeAnthropic) -> AnthropicProvider:
    return AnthropicProvider(base_url=fake.url, timeout_seconds=0.5)


async def test_every_start_is_answered_with_the_fact_and_the_alternative() -> None:
    anthropic = AnthropicProvider()
    for method in sorted(anthropic.methods):
        spec = run_spec("claude-3-haiku-20240307", method=method)
        with pytest.raises(ProviderNotEligible, match="2026-09-10") as caught:
            await anthropic.start(spec, CHAT_FILE, idempotency_key="x", callback=NOBODY, key=key())
        assert caught.value.code == "provider_has_no_fine_tuning"
        assert "open-weights" in caught.value.message
        with pytest.raises(ProviderNotEligible) as estimated:
            anthropic.estimate(spec, CHAT_FILE)
        assert estimated.value.message == caught.value.message


async def test_there_are_no_runs_and_no_models() -> None:
    anthropic = AnthropicProvider()
    assert await anthropic.find("x", key=key()) == []
    for call in (anthropic.poll("x", key=key()), anthropic.cancel("x", key=key())):
        with pytest.raises(ProviderRunNotFound):
            await call
    with pytest.raises(ProviderRejected):
        await anthropic.delete_model("x", key=key())


async def test_a_key_that_works_names_its_organization(fake: FakeAnthropic) -> None:
    facts = await provider(fake).check_key(key())
    assert facts.account == "org-0123"
    assert fake.calls["check"] == 1


@pytest.mark.parametrize("base_url", ["{}", "{}/", "{}/v1"])
async def test_an_address_of_the_users_own(fake: FakeAnthropic, base_url: str) -> None:
    anthropic = AnthropicProvider(timeout_seconds=2, allow_private_addresses=True)
    assert (await anthropic.check_key(key(base_url=base_url.format(fake.url)))).account == "org-0123"


@pytest.mark.parametrize("base_url", ["http://api.example.com", "https://127.0.0.1", "https://[::1]:8000"])
async def test_a_private_address_gets_no_key(base_url: str) -> None:
    with pytest.raises(ProviderRejected):
        await AnthropicProvider().check_key(key(base_url=base_url))


async def test_a_name_of_a_private_address_gets_no_key() -> None:
    with pytest.raises(ProviderUnavailable):
        await AnthropicProvider(timeout_seconds=2).check_key(key(base_url="https://localhost:1"))


async def test_errors_are_told_by_their_class_and_without_the_key(fake: FakeAnthropic) -> None:
    anthropic = provider(fake)
    with pytest.raises(ProviderKeyInvalid, match="invalid x-api-key"):
        await anthropic.check_key(key("sk-ant-wrong-0123456789"))
    expected = [
        (busy(7), ProviderBusy),
        (Fault(status=529), ProviderUnavailable),
        (Fault(hang=True), ProviderUnavailable),
        (Fault(reset=True), ProviderUnavailable),
        (Fault(status=403), ProviderNotEligible),
        (Fault(status=400, body=fake.error(400, f"no {SECRET}")), ProviderRejected),
    ]
    for fault, error in expected:
        fake.disturb("check", *[fault] * (2 if fault.reset else 1))  # aiohttp asks once more after a reset
        with pytest.raises(error) as caught:
            await anthropic.check_key(key())
        assert type(caught.value) is error
        assert SECRET not in json.dumps(caught.value.body())
