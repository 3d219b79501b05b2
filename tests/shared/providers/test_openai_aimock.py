"""The OpenAI provider against an implementation that is not ours: aimock, which moves on at each poll.

    mkdir fixtures && echo '{"fixtures": []}' > fixtures/none.json   # it does not start without any
    npx -p @copilotkit/aimock@1.43.0 llmock -p 4010
    AIMOCK_URL=http://127.0.0.1:4010 pytest <this file>

What aimock 1.43 does not have, and so is not asked: metrics, result files, checkpoints, bad files. It
ignores the search by metadata, as other services may.
"""

from __future__ import annotations

import os

import pytest
from pydantic import SecretStr

from shared.errors import ProviderRunNotFound
from shared.keys.store import OpenedKey
from shared.providers.openai import OpenAIProvider
from shared.training.config import Method
from shared.training.spec import RunSpec
from tests.shared.providers.harness import CHAT_FILE, NOBODY, run_spec
from tests.shared.providers.harness_openai import BASE

AIMOCK_URL = os.environ.get("AIMOCK_URL")
pytestmark = pytest.mark.skipif(not AIMOCK_URL, reason="AIMOCK_URL is not set: aimock comes from npm")
KEY = OpenedKey(SecretStr("sk-any-key"), base_url=f"{AIMOCK_URL}/v1")


@pytest.mark.parametrize("method", ["full", "dpo"])
async def test_a_run_from_start_to_model(method: Method) -> None:
    provider = OpenAIProvider(allow_private_addresses=True, timeout_seconds=10)
    spec = run_spec(BASE, method=method)
    ref = await _start(provider, spec)
    assert await _start(provider, spec) == ref
    assert await provider.find(str(spec.job_id), key=KEY) == [ref]

    seen, messages, cursor = [], [], None
    while not seen or seen[-1] != "completed":
        report = await provider.poll(ref, key=KEY, cursor=cursor)
        cursor = report.cursor or cursor
        seen.append(report.status)
        messages += [event.message for event in report.events]
        assert len(seen) < 10
    assert seen == ["queued", "training", "completed"]
    assert len(messages) == len(set(messages)) > 2
    assert report.result
    assert report.result.provider_model_id
    assert report.result.trained_tokens
    await provider.cancel(ref, key=KEY)  # which aimock answers with 400
    await provider.delete_model(report.result.provider_model_id, key=KEY)
    await provider.close()


async def test_a_run_is_cancelled_twice_and_strangers_are_not_known() -> None:
    provider = OpenAIProvider(allow_private_addresses=True, timeout_seconds=10)
    await provider.check_key(KEY)
    ref = await _start(provider, run_spec(BASE))
    for _ in range(2):
        await provider.cancel(ref, key=KEY)
    assert (await provider.poll(ref, key=KEY)).status == "cancelled"
    with pytest.raises(ProviderRunNotFound):
        await provider.poll("ftjob-unknown", key=KEY)
    await provider.close()


async def _start(provider: OpenAIProvider, spec: RunSpec) -> str:
    return await provider.start(spec, CHAT_FILE, idempotency_key=str(spec.job_id), callback=NOBODY, key=KEY)
