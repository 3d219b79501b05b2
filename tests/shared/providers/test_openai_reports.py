"""How OpenAI's runs are reported: steps, events, results, and whatever a service may answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import ProviderError, ProviderUnavailable
from shared.providers.base import ProviderReport
from shared.training.files import TrainingFile
from tests.fakes.http import Fault
from tests.fakes.openai_state import loss_at
from tests.shared.providers.harness import CHAT_FILE, NOBODY, training_file
from tests.shared.providers.harness_openai import OpenAIHarness, harness


@pytest.fixture
async def bench(tmp_path: Path, timeout_seconds: float) -> AsyncIterator[OpenAIHarness]:
    with harness(tmp_path, timeout_seconds) as opened:
        yield opened
        await opened.provider.close()


async def start(bench: OpenAIHarness, file: TrainingFile = CHAT_FILE) -> str:
    spec = bench.spec()
    return await bench.provider.start(
        spec, file, idempotency_key=str(spec.job_id), callback=NOBODY, key=bench.key
    )


async def poll(bench: OpenAIHarness, ref: str, cursor: str | None = None) -> ProviderReport:
    return await bench.provider.poll(ref, key=bench.key, cursor=cursor)


def body(bench: OpenAIHarness, ref: str) -> dict[str, Any]:
    return bench.fake.vendor.jobs[ref].body


async def test_a_run_from_beginning_to_end(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    assert [(await poll(bench, ref)).status, bench.fake.advance(ref)] == ["validating", "queued"]
    assert (await poll(bench, ref)).status == "queued"
    assert bench.fake.calls["events"] == 0

    bench.fake.advance(ref)
    bench.fake.vendor.train(ref, 5)
    first = await poll(bench, ref)
    assert first.progress
    assert (first.progress.step, first.progress.total_steps, first.progress.total_epochs) == (6, 36, 3)
    assert first.progress.progress_percent == round(100 * 6 / 36, 2)
    assert first.progress.current_step == first.current_step == "Training... (step 6 of 36)"
    assert [step.step for step in first.metrics] == [1, 2, 3, 4, 5, 6]
    assert first.metrics[5].training_loss == first.progress.training_loss == loss_at(6)
    assert [event.message for event in first.events][-1] == "Fine-tuning job started"
    before = sum(bench.fake.calls.values())
    assert (await poll(bench, ref, first.cursor)).progress is None
    assert sum(bench.fake.calls.values()) == before + 2

    bench.fake.vendor.train(ref, 1)
    second = await poll(bench, ref, first.cursor)
    assert [step.step for step in second.metrics] == [7]
    assert second.cursor != first.cursor

    bench.fake.advance(ref)
    end = await poll(bench, ref, second.cursor)
    assert end.result
    assert end.status == "completed"
    assert end.result.provider_model_id == body(bench, ref)["fine_tuned_model"]
    assert end.result.trained_tokens == body(bench, ref)["trained_tokens"]
    assert end.result.training_loss == loss_at(36)
    assert [step.step for step in end.metrics] == list(range(1, 37))
    assert end.metrics[35].epoch == 3
    assert [event.message for event in end.events] == ["The job has succeeded", "Checkpoint at step 36"]
    assert "canary" not in repr(end)


async def test_a_bad_training_file_fails_with_the_vendor_s_reason(bench: OpenAIHarness) -> None:
    ref = await start(bench, file=training_file(CHAT_FILE.content + b"{}\n", row_count=13))
    assert bench.fake.advance(ref) == "failed"
    report = await poll(bench, ref)
    assert report.error
    assert report.error.code == "invalid_training_file"
    assert "Line 13" in report.error.message


async def test_more_events_than_a_page_come_in_order(bench: OpenAIHarness) -> None:
    file = training_file(CHAT_FILE.content * 40, row_count=480)
    ref = await start(bench, file=file)
    bench.set_status(ref, "running")
    for number in range(250):
        bench.fake.vendor.tell(ref, f"message {number}")
    report = await poll(bench, ref)
    assert [event.message for event in report.events][-250:] == [f"message {n}" for n in range(250)]
    assert bench.fake.calls["events"] == 3


async def test_tokens_are_told_where_the_service_counts_them(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    bench.set_status(ref, "running")
    body(bench, ref)["trained_tokens"] = 15_000
    assert (await poll(bench, ref)).current_step == "Training... (15000 tokens trained)"


async def test_a_running_run_is_reported_although_its_events_are_not_to_be_had(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    bench.set_status(ref, "running")
    bench.disturb("events", *[Fault(status=500)] * 3)
    report = await poll(bench, ref)
    assert (report.status, report.events, report.cursor) == ("training", (), None)
    assert (await poll(bench, ref)).events


@pytest.mark.parametrize("operation", ["events", "result", "checkpoints"])
async def test_an_ended_run_waits_for_its_details_but_not_for_ever(
    bench: OpenAIHarness, operation: str
) -> None:
    ref = await start(bench)
    bench.set_status(ref, "succeeded")
    bench.disturb(operation, *[Fault(status=500)] * 3)
    with pytest.raises(ProviderUnavailable):
        await poll(bench, ref)
    assert (await poll(bench, ref)).status == "completed"
    body(bench, ref)["finished_at"] -= 601
    bench.disturb(operation, *[Fault(status=500)] * 3)
    report = await poll(bench, ref)
    assert report.result
    assert report.result.provider_model_id


async def test_details_that_are_gone_are_done_without(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    bench.set_status(ref, "succeeded")
    bench.fake.vendor.files.pop(body(bench, ref)["result_files"][0])
    report = await poll(bench, ref)
    assert report.status == "completed"
    assert report.metrics  # those of the events


async def test_a_success_without_a_model_is_none(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    bench.set_status(ref, "succeeded")
    body(bench, ref)["fine_tuned_model"] = None
    with pytest.raises(ProviderUnavailable, match="not named"):
        await poll(bench, ref)
    body(bench, ref)["finished_at"] -= 601
    report = await poll(bench, ref)
    assert report.error
    assert (report.status, report.error.code) == ("failed", "model_missing")


@pytest.mark.parametrize("csv", [True, False])
async def test_result_files_are_read_plain_and_in_base64(bench: OpenAIHarness, csv: bool) -> None:
    ref = await start(bench)
    bench.set_status(ref, "succeeded")
    if csv:
        text = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.5,,0.75,\nx,,,,\n"
        bench.fake.vendor.contents[body(bench, ref)["result_files"][0]] = text
    report = await poll(bench, ref)
    assert report.metrics[0].training_loss == (0.5 if csv else loss_at(1))
    assert report.metrics[0].validation_loss == (0.75 if csv else None)


async def test_an_answer_that_is_no_job_is_no_status(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    bench.disturb("poll", *[Fault(status=200, body={"hello": "world"})] * 3)
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        await poll(bench, ref)
    bench.disturb("list", *[Fault(status=200, body={"object": "list"})] * 3)
    with pytest.raises(ProviderUnavailable, match="cannot be read"):
        await bench.provider.find("x", key=bench.key)


JUNK = (None, "x" * 5000, -1, 2**63, ["x", None], {"a": {"b": []}}, "\x00\ud800")


async def test_whatever_a_service_answers_it_is_a_report_or_one_of_our_errors(bench: OpenAIHarness) -> None:
    """Every field of a job, of an event and of a checkpoint, with every kind of junk in it."""
    ref = await start(bench)
    bench.set_status(ref, "succeeded")
    good = json.loads(json.dumps(body(bench, ref)))
    event, checkpoint = (
        bench.fake.vendor.jobs[ref].events[-1],
        bench.fake.vendor.checkpoints(bench.fake.vendor.jobs[ref])[0],
    )
    mixed = [
        ("poll", {**good, field: junk, "status": "running"})
        for field in good
        if field != "status"
        for junk in JUNK
    ]
    mixed += [
        ("poll", {**good, field: junk})
        for field in ("fine_tuned_model", "result_files", "finished_at", "created_at", "seed", "model")
        for junk in JUNK
    ]
    mixed += [("events", _page({**event, field: junk})) for field in event for junk in JUNK]
    mixed += [("checkpoints", _page({**checkpoint, field: junk})) for field in checkpoint for junk in JUNK]
    mixed += [("poll", {**good, "status": junk}) for junk in JUNK]
    reports = 0
    for operation, answer in mixed:
        bench.disturb(operation, *[Fault(status=200, body=answer)])
        try:
            reports += (await poll(bench, ref)).status != ""
        except ProviderError:
            bench.fake.forget_faults()
    assert reports > len(mixed) / 2


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"object": "list", "data": [item, "no object"], "has_more": False}


async def test_what_a_run_has_cost_is_known_at_openai_only(bench: OpenAIHarness) -> None:
    ref = await start(bench)
    bench.set_status(ref, "succeeded")
    assert (await poll(bench, ref)).cost_usd is None  # the fake's prices are its own
