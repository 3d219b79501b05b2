"""Gemini's batches, asked for as Google's own SDK asks; files that nobody reads are taken away."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator, Iterator

import pytest
from google.genai import Client, types
from pydantic import SecretStr

from shared.errors import ProviderRejected
from shared.llm.base import Completion, TryLater, Turn
from shared.llm.batches import BatchState
from shared.llm.gemini import Gemini
from shared.llm.gemini_batches import GeminiBatches
from tests.fakes.gemini import MODEL, FakeGemini
from tests.fakes.google_errors import exhausted
from tests.fakes.http import Fault

TURNS = [Turn("system", "Be brief."), Turn("user", "What is 2 + 2?")]


@pytest.fixture
def vendor() -> Iterator[FakeGemini]:
    with FakeGemini() as made:
        yield made


@pytest.fixture
async def client(vendor: FakeGemini) -> AsyncIterator[Gemini]:
    made = Gemini(MODEL, SecretStr(vendor.api_key), vendor.url)
    yield made
    await made.close()


@pytest.fixture
def batches(client: Gemini) -> GeminiBatches:
    return GeminiBatches(client)


@pytest.fixture
async def sdk(vendor: FakeGemini) -> AsyncIterator[Client]:
    options = types.HttpOptions(base_url=vendor.url, api_version="v1beta")
    made = Client(api_key=vendor.api_key, http_options=options)
    yield made
    await made.aio.aclose()


def asked_of(vendor: FakeGemini) -> list[tuple[str, str, dict[str, str]]]:
    """Method, path without ids, and headers of an upload, of each call; then they are forgotten."""
    calls = []
    for method, path, headers in vendor.requests:
        shown = re.sub(r"upload_id=\d+|\d+fake", "ID", path)
        upload = {name.lower(): said for name, said in headers.items() if "Upload" in name.title()}
        calls.append((method, shown, upload))
    vendor.requests.clear()
    return calls


async def test_a_batch_is_asked_for_as_the_sdk_asks(
    vendor: FakeGemini, client: Gemini, batches: GeminiBatches, sdk: Client
) -> None:
    question = client.body(TURNS, None)
    ours = await batches.submit("ours", {"q": question})
    assert await batches.find("ours", 1, 0, []) == ours
    assert await batches.state(ours) == BatchState(False)
    await batches.cancel(ours)
    we = asked_of(vendor)

    line = json.dumps({"key": "q", "request": question}, separators=(",", ":")).encode()
    kind = types.UploadFileConfig(display_name="theirs", mime_type="application/jsonl")
    file = await sdk.aio.files.upload(file=io.BytesIO(line), config=kind)
    made = await sdk.aio.batches.create(
        model=MODEL, src=str(file.name), config=types.CreateBatchJobConfig(display_name="theirs")
    )
    pages = await sdk.aio.batches.list(config=types.ListBatchJobsConfig(page_size=100))
    listed = [job async for job in pages]
    await sdk.aio.batches.get(name=str(made.name))
    await sdk.aio.batches.cancel(name=str(made.name))
    they = asked_of(vendor)
    assert [call[:2] for call in we] == [call[:2] for call in they]
    # In the second step of an upload it says once more what it said in the first.
    assert all(our[2].items() <= their[2].items() for our, their in zip(we, they, strict=True))
    assert [job.display_name for job in listed] == ["theirs", "ours"]
    first, second = (vendor.batches[str(job.name)]["metadata"] for job in reversed(listed))
    assert vendor.files[first["inputConfig"]["fileName"]] == vendor.files[second["inputConfig"]["fileName"]]


async def test_the_results_are_those_that_the_sdk_finds(
    vendor: FakeGemini, client: Gemini, batches: GeminiBatches, sdk: Client
) -> None:
    refused = {"contents": []}
    ours = await batches.submit("ours", {"good": client.body(TURNS, None), "bad": refused})
    vendor.end_batches()
    job = await sdk.aio.batches.get(name=ours)
    assert job.state == types.JobState.JOB_STATE_SUCCEEDED
    assert job.dest
    content = await sdk.aio.files.download(file=str(job.dest.file_name))
    theirs = {said["key"]: said for said in map(json.loads, content.splitlines())}
    state = await batches.state(ours)
    found = {name: result async for name, result in batches.results(state)}
    good, bad = found["good"], found["bad"]
    assert isinstance(good, Completion)
    assert good.text == theirs["good"]["response"]["candidates"][0]["content"]["parts"][0]["text"]
    assert good.prompt_tokens == theirs["good"]["response"]["usageMetadata"]["promptTokenCount"]
    assert isinstance(bad, ProviderRejected)
    assert theirs["bad"]["error"]["message"] in bad.message


@pytest.mark.parametrize("word", [state.name for state in types.JobState])
async def test_a_batch_has_ended_when_the_sdk_says_so(
    vendor: FakeGemini, batches: GeminiBatches, word: str
) -> None:
    name = vendor.add_batch("any")["name"]
    metadata = vendor.batches[name]["metadata"]
    metadata["output"] = {"responsesFile": "files/batch-any"}
    for prefix in ("JOB", "BATCH"):
        metadata["state"] = word.replace("JOB", prefix, 1)
        state = await batches.state(name)
        assert state.is_ended == (word in types.JOB_STATES_ENDED)
        assert (state.error is not None) == (word == "JOB_STATE_FAILED")
        assert len(state.files) == state.is_ended


async def test_a_batch_that_came_to_nothing(vendor: FakeGemini, batches: GeminiBatches) -> None:
    names = [vendor.add_batch(word)["name"] for word in ("EXPIRED", "CANCELLED", "FAILED")]
    vendor.end_batch(names[0], "EXPIRED")
    vendor.end_batch(names[1], "CANCELLED", {"code": 1, "message": "cancelled"})
    vendor.end_batch(names[2], "FAILED", {"code": 3, "message": f"no line is a request: {vendor.api_key}"})
    expired, cancelled, failed = [await batches.state(name) for name in names]
    assert expired == cancelled == BatchState(True)
    assert failed == BatchState(True, (), "no line is a request: [redacted]")


async def test_answers_that_are_not_there_yet_are_waited_for(
    vendor: FakeGemini, batches: GeminiBatches
) -> None:
    name = vendor.add_batch("any")["name"]
    vendor.end_batch(name, "SUCCEEDED")
    with pytest.raises(KeyError):  # which shared.generation.batch takes as not understood
        await batches.state(name)


async def test_a_batch_is_found_on_a_later_page_and_no_other_is(
    vendor: FakeGemini, batches: GeminiBatches
) -> None:
    ours = vendor.add_batch("ours")["name"]
    for i in range(150):
        vendor.add_batch(f"theirs-{i}")
    assert await batches.find("ours", 1, 0, []) == ours
    assert vendor.calls["list"] == 2
    assert await batches.find("our", 1, 0, []) is None


@pytest.mark.parametrize(
    ("fault", "error", "kept"),
    [
        (exhausted(1), TryLater, 0),
        (Fault(400), ProviderRejected, 0),
        (Fault(503), TryLater, 1),
        (Fault(503, executed=True), TryLater, 1),
    ],
)
async def test_a_file_is_kept_while_there_may_be_a_batch_of_it(
    vendor: FakeGemini, batches: GeminiBatches, fault: Fault, error: type[Exception], kept: int
) -> None:
    vendor.disturb("submit", fault)
    with pytest.raises(error):
        await batches.submit("ours", {"q": {"contents": []}})
    assert len(vendor.files) == kept


async def test_no_file_and_no_key_go_to_another_address(vendor: FakeGemini, batches: GeminiBatches) -> None:
    with FakeGemini() as stranger:
        vendor.upload_host = stranger.url
        with pytest.raises(ProviderRejected, match="another address"):
            await batches.submit("ours", {"q": {"contents": []}})
        assert not stranger.requests
