"""Deliveries as OpenAI signs them, and as others might."""

from __future__ import annotations

import time

import pytest
from openai import AsyncOpenAI, InvalidWebhookSignatureError
from pydantic import SecretStr

from shared.errors import Unauthorized
from shared.providers.openai import ProviderHint, read_webhook
from tests.fakes.openai import WEBHOOK_SECRET, FakeOpenAI

SECRET = SecretStr(WEBHOOK_SECRET)
FAKE = FakeOpenAI()  # only signs: it is not started


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_genuine_delivery_names_the_run(status: str) -> None:
    raw, headers = FAKE.signed_webhook("ftjob-1", status)
    hint = ProviderHint(delivery_id=headers["webhook-id"], provider_job_id="ftjob-1")
    assert read_webhook(raw, headers, SECRET) == hint
    assert read_webhook(raw, {name.title(): value for name, value in headers.items()}, SECRET) == hint


async def test_openai_s_own_check_takes_what_the_fake_signs() -> None:
    sdk = AsyncOpenAI(api_key="sk-x", webhook_secret=WEBHOOK_SECRET)
    raw, headers = FAKE.signed_webhook("ftjob-1", "succeeded")
    event = sdk.webhooks.unwrap(raw, headers)
    assert (event.type, event.data.id) == ("fine_tuning.job.succeeded", "ftjob-1")
    with pytest.raises(InvalidWebhookSignatureError):
        sdk.webhooks.unwrap(raw + b" ", headers)
    await sdk.close()


@pytest.mark.parametrize("age_seconds", [-310, 310])
def test_an_old_or_early_delivery_is_refused(age_seconds: int) -> None:
    raw, headers = FAKE.signed_webhook("ftjob-1", "succeeded", age_seconds=age_seconds)
    with pytest.raises(Unauthorized):
        read_webhook(raw, headers, SECRET)
    raw, headers = FAKE.signed_webhook("ftjob-1", "succeeded", age_seconds=age_seconds * 0.9)
    assert read_webhook(raw, headers, SECRET)


def test_forged_deliveries_are_refused_before_they_are_parsed() -> None:
    raw, headers = FAKE.signed_webhook("ftjob-1", "succeeded")
    forged = [
        (raw.replace(b"ftjob-1", b"ftjob-2"), headers),
        (b"\xff not JSON", headers),
        (raw, {**headers, "webhook-id": "another"}),
        (raw, {**headers, "webhook-timestamp": str(int(time.time()) - 60)}),
        (raw, {**headers, "webhook-timestamp": "nan"}),
        (raw, {**headers, "webhook-signature": "v1,AAAA"}),
        (raw, {**headers, "webhook-signature": "garbage"}),
        (raw, {**headers, "webhook-signature": "v1,ü"}),
        (raw, {}),
    ]
    for body, given in forged:
        with pytest.raises(Unauthorized):
            read_webhook(body, given, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_b3RoZXI="])
def test_another_secret_opens_nothing(secret: str) -> None:
    raw, headers = FAKE.signed_webhook("ftjob-1", "succeeded")
    with pytest.raises(Unauthorized):
        read_webhook(raw, headers, SecretStr(secret))


def test_news_of_other_things_is_genuine_and_no_hint() -> None:
    raw, headers = FAKE.signed_webhook("ftjob-1", "paused")
    assert read_webhook(raw, headers, SECRET) is None


def test_the_fake_delivers_by_itself_and_as_often_as_it_is_told() -> None:
    with FakeOpenAI() as listener, FakeOpenAI(webhook_url=f"{listener.url}/nobody") as fake:
        file = fake.vendor.add_file("x.jsonl", b"", "fine-tune")
        refs = []
        for copies in (1, 3, 0):
            fake.webhook_copies = copies
            job = fake.vendor.create({"model": "gpt-4o-2024-08-06", "training_file": file["id"]})
            refs.append(job.body["id"])
            fake.vendor.cancel(refs[-1])
        end = time.monotonic() + 5
        while len(fake.webhook_answers) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        assert fake.webhook_answers == [404] * 4
