"""The bill is what the estimate said: OpenAI's provider and its fake, from the same rows."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from pydantic import SecretStr

from shared.datasets.model import Message, Pair
from shared.datasets.store import training_file
from shared.keys.store import OpenedKey
from shared.providers import openai_client
from shared.providers.base import ProviderReport
from shared.providers.openai import OpenAIProvider
from shared.tokens import count_tokens
from shared.training.files import TrainingFile
from shared.training.spec import RunSpec
from tests.conftest import Figure
from tests.fakes.openai import FakeOpenAI
from tests.shared.providers.harness import NOBODY
from tests.shared.training.runs import run

PRICES = {  # USD a million trained tokens, as OpenAI listed them; not read from our own list
    "gpt-4o-mini-2024-07-18": 3.00,
    "gpt-4.1-mini-2025-04-14": 5.00,
    "gpt-4.1-2025-04-14": 25.00,
    "gpt-4o-2024-08-06": 25.00,
}
WORDS = "The green door opens only at noon, when the keeper's 12 bells have rung; nobody knows why. "


def pair(*texts: str) -> Pair:
    roles = ("system", "user", "assistant")[-len(texts) :]
    messages = tuple(Message(role, text) for role, text in zip(roles, texts, strict=True))
    return Pair(uuid4(), datetime(2026, 11, 21, tzinfo=UTC), ordinal=0, messages=messages)


def golden_file() -> TrainingFile:
    """Ten rows of 4,306 tokens in all."""
    sizes = [430] * 9 + [436]
    return training_file(
        [pair("door" + " door" * (size // 2 - 1), "key" + " key" * (size - size // 2 - 1)) for size in sizes]
    )


def talk_file(repeats: int) -> TrainingFile:
    """Forty rows of ordinary language, every other one with a system message."""
    return training_file(
        [
            pair(
                *(["You know every door."] if n % 2 else []), f"Door {n}? " + WORDS * repeats, WORDS * repeats
            )
            for n in range(40)
        ]
    )


async def trained(fake: FakeOpenAI, spec: RunSpec, file: TrainingFile) -> ProviderReport:
    """The last report of a run that OpenAI's fake has finished."""
    provider, key = OpenAIProvider(), OpenedKey(SecretStr(fake.api_key))
    try:
        ref = await provider.start(spec, file, idempotency_key=str(spec.job_id), callback=NOBODY, key=key)
        while fake.advance(ref) != "succeeded":
            pass
        return await provider.poll(ref, key=key)
    finally:
        await provider.close()


@pytest.fixture
def openai_is_here(monkeypatch: pytest.MonkeyPatch) -> object:
    """OpenAI's own address leads to the fake: keys with another address have no price of OpenAI's."""

    def lead(fake: FakeOpenAI) -> None:
        monkeypatch.setattr(openai_client, "OPENAI_URL", fake.base_url)

    return lead


async def test_the_golden_case_costs_what_was_said(openai_is_here) -> None:
    file = golden_file()
    assert file.token_count == 4_306
    spec = run("gpt-4.1-mini-2025-04-14", "full", epochs=20)
    estimate = OpenAIProvider().estimate(spec, file)
    with FakeOpenAI() as fake:
        openai_is_here(fake)
        report = await trained(fake, spec, file)
    assert report.result
    assert report.result.trained_tokens == estimate.billable_tokens == 86_120
    assert report.cost_usd == estimate.cost_usd == 0.4306


@pytest.mark.parametrize("model", PRICES)
@pytest.mark.parametrize(
    ("extra_tokens", "repeats"), [(0, 1), (3, 30)], ids=["same vocabulary", "3 more a message"]
)
async def test_the_bill_is_within_one_percent_of_the_estimate(
    openai_is_here, model: str, extra_tokens: int, repeats: int, figure: Figure
) -> None:
    file = talk_file(repeats)
    spec = run(model, "full", epochs=3)
    estimate = OpenAIProvider().estimate(spec, file)
    with FakeOpenAI(count_tokens=lambda text: count_tokens(text) + extra_tokens) as fake:
        openai_is_here(fake)
        report = await trained(fake, spec, file)
        billed = fake.vendor.jobs[next(iter(fake.vendor.jobs))].body["trained_tokens"] * PRICES[model] / 1e6
    difference = abs(estimate.cost_usd - billed) / billed
    figure(f"{model}: estimate {estimate.cost_usd} USD, billed {billed:.6f} USD, difference {difference:.3%}")
    assert difference < 0.01
    assert report.cost_usd == pytest.approx(billed, abs=1e-6)
