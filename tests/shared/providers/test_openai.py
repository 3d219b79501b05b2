"""What is OpenAI's own: files, requests, metrics, refusals. What all providers do is in test_contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
    ProviderUnavailable,
)
from shared.keys.store import OpenedKey
from shared.providers.openai import OpenAIProvider
from shared.training.config import TrainingConfig
from shared.training.spec import RunSpec
from tests.fakes.http import Fault
from tests.shared.providers.harness import CHAT_FILE, NOBODY, run_spec, training_file
from tests.shared.providers.harness_openai import BASE, OpenAIHarness, harness

PREFERENCE_ROW = (
    b'{"input":{"messages":[{"role":"user","content":"Who?"}]},'
    b'"preferred_output":[{"role":"assistant","content":"Nell."}],'
    b'"non_preferred_output":[{"role":"assistant","content":"No."}]}\n'
)


@pytest.fixture
async def bench(tmp_path: Path, timeout_seconds: float) -> AsyncIterator[OpenAIHarness]:
    with harness(tmp_path, timeout_seconds) as opened:
        yield opened
        await opened.provider.close()


async def start(bench: OpenAIHarness, spec: RunSpec | None = None, file: Any = CHAT_FILE) -> str:
    spec = spec or bench.spec()
    return await bench.provider.start(
        spec, file, idempotency_key=str(spec.job_id), callback=NOBODY, key=bench.key
    )


def body(bench: OpenAIHarness, ref: str) -> dict[str, Any]:
    return bench.fake.vendor.jobs[ref].body


# What is sent


async def test_the_request_says_what_the_user_set_and_leaves_the_rest_to_the_vendor(
    bench: OpenAIHarness,
) -> None:
    config = TrainingConfig(epochs=5, batch_size=4, learning_rate_multiplier=0.5, seed=7)
    spec = run_spec(BASE, config=config, model_name="Müller & Söhne: support/de " + "x" * 80)
    ref = await start(bench, spec)
    sent = body(bench, ref)
    assert sent["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 5, "batch_size": 4, "learning_rate_multiplier": 0.5}},
    }
    assert (sent["seed"], sent["model"]) == (7, BASE)
    assert sent["metadata"] == {"fineflow_job": str(spec.job_id), "fineflow_attempt": "1"}
    suffix = bench.fake.vendor.jobs[ref].suffix
    assert suffix.startswith("M-ller-S-hne-support-de-xxx")
    assert len(suffix) <= 64
    plain = body(bench, await start(bench, run_spec(BASE, model_name="好")))
    assert plain["method"]["supervised"]["hyperparameters"] == {
        "n_epochs": 3,
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
    }


async def test_dpo_sends_preferences(bench: OpenAIHarness) -> None:
    file = training_file(PREFERENCE_ROW * 12, row_count=12)
    ref = await start(bench, run_spec(BASE, file, method="dpo"), file)
    method = body(bench, ref)["method"]
    assert (method["type"], method["dpo"]["hyperparameters"]["beta"]) == ("dpo", 0.1)
    assert bench.fake.advance(ref) == "queued"


async def test_the_server_s_own_account_is_not_the_user_s(
    bench: OpenAIHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "sk-canary-of-the-server")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    await start(bench)
    assert "of-the-server" not in repr(bench.fake.requests)


# Files


async def test_a_file_that_is_there_is_not_uploaded_again(bench: OpenAIHarness) -> None:
    spec = bench.spec()
    bench.disturb("create", Fault(status=503))
    with pytest.raises(ProviderUnavailable):
        await start(bench, spec)
    await start(bench, spec)
    assert bench.fake.calls["upload"] == 1
    (file,) = bench.fake.vendor.files.values()
    assert file["filename"] == f"{spec.job_id}-{CHAT_FILE.sha256}.jsonl"
    assert bench.fake.vendor.contents[file["id"]] == CHAT_FILE.content


async def test_what_arrived_cut_is_sent_once_more(bench: OpenAIHarness) -> None:
    bench.disturb("upload", Fault(keep_bytes=100))
    ref = await start(bench)
    (file,) = bench.fake.vendor.files.values()
    assert (file["id"], file["bytes"]) == (body(bench, ref)["training_file"], len(CHAT_FILE.content))


async def test_cut_twice_nothing_is_created(bench: OpenAIHarness) -> None:
    bench.disturb("upload", Fault(keep_bytes=100), Fault(keep_bytes=0))
    with pytest.raises(ProviderUnavailable, match="bytes") as caught:
        await start(bench)
    assert caught.value.code == "upload_truncated"
    assert bench.fake.calls["create"] == 0
    assert bench.fake.vendor.files == {}


async def test_a_file_left_cut_by_an_earlier_start_is_not_used(bench: OpenAIHarness) -> None:
    spec = bench.spec()
    cut = bench.fake.vendor.add_file(f"{spec.job_id}-{CHAT_FILE.sha256}.jsonl", b"{}", "fine-tune")
    assert body(bench, await start(bench, spec))["training_file"] != cut["id"]


# Search


async def test_a_service_that_ignores_the_search_is_searched_by_us(bench: OpenAIHarness) -> None:
    bench.fake.ignores_metadata_filter = True
    spec = bench.spec()
    mine = bench.add_run(str(spec.job_id))
    for _ in range(250):
        bench.add_run("other")
    assert await bench.provider.find(str(spec.job_id), key=bench.key) == [mine]
    assert bench.fake.calls["list"] == 3


async def test_a_run_that_lists_show_late_is_found_when_they_do(bench: OpenAIHarness) -> None:
    spec = bench.spec()
    bench.disturb("create", Fault(status=500, executed=True, hide_seconds=0.3))
    with pytest.raises(ProviderUnavailable):
        await start(bench, spec)
    assert await bench.provider.find(str(spec.job_id), key=bench.key) == []
    async with asyncio.timeout(5):
        while not (found := await bench.provider.find(str(spec.job_id), key=bench.key)):
            await asyncio.sleep(0.05)
    assert found == bench.runs()
    assert bench.provider.late_seconds == 180


# Refusals


async def test_an_organisation_that_may_not_train(bench: OpenAIHarness) -> None:
    bench.fake.vendor.blocked = True
    with pytest.raises(ProviderNotEligible, match="open-weights") as caught:
        await start(bench)
    assert caught.value.details["code"] == "training_not_available"
    assert "not available to your organization" in caught.value.message


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("code", ["training_not_available", "model_not_available"])
async def test_all_ways_to_say_not_eligible(bench: OpenAIHarness, status: int, code: str) -> None:
    bench.disturb("create", Fault(status=status, body=bench.fake.error(status, "No.", code)))
    with pytest.raises(ProviderNotEligible):
        await start(bench)


async def test_a_base_model_that_nobody_may_train(bench: OpenAIHarness) -> None:
    with pytest.raises(ProviderNotEligible, match="is not available for fine-tuning or does not exist"):
        await start(bench, run_spec("gpt-1"))


async def test_no_money_is_not_busy(bench: OpenAIHarness) -> None:
    bench.disturb("create", Fault(status=429, body=bench.fake.error(429, "Pay.", "insufficient_quota")))
    with pytest.raises(ProviderRejected, match="cannot pay"):
        await start(bench)


@pytest.mark.parametrize("key", ["", "sk-ünïcode", "sk-line\nbreak"])
async def test_what_cannot_be_a_key_is_not_sent(bench: OpenAIHarness, key: str) -> None:
    with pytest.raises(ProviderKeyInvalid):
        await bench.provider.check_key(replace(bench.key, api_key=SecretStr(key)))
    assert bench.fake.requests == []


async def test_the_account_of_a_key_is_told(bench: OpenAIHarness) -> None:
    assert (await bench.provider.check_key(bench.key)).account == "fake-org"


async def test_a_run_that_will_not_stop_says_so(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    bench.disturb("cancel", bench.refusal(400, "Not now."))
    with pytest.raises(ProviderRejected, match="Not now"):
        await bench.provider.cancel(ref, key=bench.key)


async def test_a_slow_upload_leaves_the_create_to_the_next_start(
    bench: OpenAIHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.providers.openai._CREATE_WITHIN_SECONDS", 0)
    spec = bench.spec()
    with pytest.raises(ProviderBusy):
        await start(bench, spec)
    assert bench.runs() == []
    monkeypatch.undo()
    await start(bench, spec)
    assert bench.fake.calls["upload"] == 1


# Addresses that users chose


async def test_a_key_is_sent_to_public_addresses_over_tls_only(bench: OpenAIHarness) -> None:
    guarded = OpenAIProvider(timeout_seconds=2)
    port = bench.fake.url.rpartition(":")[2]
    for url in (bench.fake.base_url, *(f"https://{host}:{port}/v1" for host in ("127.0.0.1", "localhost"))):
        with pytest.raises(ProviderRejected) as caught:
            await guarded.check_key(OpenedKey(bench.key.api_key, base_url=url))
        assert caught.value.code in ("address_not_allowed", "address_not_public")
    await guarded.close()
    assert bench.fake.requests == []


async def test_a_redirect_is_not_followed(bench: OpenAIHarness) -> None:
    elsewhere = {"location": f"{bench.fake.url}/v1/elsewhere"}
    bench.disturb("check", Fault(status=307, headers=elsewhere))
    with pytest.raises(ProviderRejected, match="redirect"):
        await bench.provider.check_key(bench.key)
    assert [path for _, path, _ in bench.fake.requests] == ["/v1/models"]


async def test_the_fake_tells_other_processes_what_it_holds(bench: OpenAIHarness) -> None:
    spec = bench.spec()
    ref = await start(bench, spec)
    async with ClientSession() as session, session.get(f"{bench.fake.url}/_fake/state") as answer:
        state = await answer.json()
    metadata = {"fineflow_job": str(spec.job_id), "fineflow_attempt": "1"}
    assert state == {"runs": [{"id": ref, "metadata": metadata, "status": "validating_files"}], "creates": 1}
