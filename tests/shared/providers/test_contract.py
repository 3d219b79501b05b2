"""What every provider must do, asked of each one over a real wire. See harness.py for how to plug in."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from shared.errors import (
    ProviderBusy,
    ProviderError,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
    ProviderRunNotFound,
    ProviderUnavailable,
)
from shared.providers.base import ENDED_STATUSES, ReportedStatus
from tests.fakes.http import Fault, busy
from tests.shared.providers.harness import Harness, find, poll, start, word_for
from tests.shared.providers.harnesses import HARNESSES

# Enough for every retry of a read that a provider may make.
MORE_THAN_RETRIED = 6
LOST_ANSWERS = {
    "500-but-created": Fault(status=500, executed=True),
    "hang-but-created": Fault(hang=True, executed=True),
    "reset-half-way": Fault(reset=True, executed=True),
}
NOBODY_KNOWS = {
    "500": Fault(status=500),
    "503": Fault(status=503),
    "hang": Fault(hang=True),
    "reset": Fault(reset=True),
}


def having(*operations: str) -> list[str]:
    """The providers whose vendors have all of these."""
    return [name for name, module in HARNESSES.items() if set(operations) <= module.OPERATIONS]


def each(*operations: str) -> list[tuple[str, str]]:
    """Every provider with each of these operations that its vendor has."""
    return [(name, operation) for operation in operations for name in having(operation)]


@pytest.fixture
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, timeout_seconds: float
) -> AsyncIterator[Harness]:
    with HARNESSES[request.param].harness(tmp_path, timeout_seconds) as opened:
        yield opened
        close = getattr(opened.provider, "close", None)
        if close is not None:
            await close()


everyone = pytest.mark.parametrize("harness", list(HARNESSES), indirect=True)


def with_vendors(*operations: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("harness", having(*operations), indirect=True)


def with_each(*operations: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("harness", "operation"), each(*operations), indirect=["harness"])


async def ask(harness: Harness, operation: str) -> object:
    """Whatever call of the provider reaches this operation of the vendor."""
    spec = harness.spec()
    if operation in ("create", "upload"):
        return await start(harness, spec)
    if operation == "list":
        return await find(harness, spec)
    if operation == "check":
        assert harness.key
        return await harness.provider.check_key(harness.key)
    if operation == "delete":
        return await harness.provider.delete_model("ft:model-x", key=harness.key)
    ref = harness.runs()[0]
    if operation == "cancel":
        return await harness.provider.cancel(ref, key=harness.key)
    return await poll(harness, ref)


async def fails(call: Awaitable[object]) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await call
    return caught.value


# Start and find


@everyone
async def test_started_twice_it_is_one_run(harness: Harness) -> None:
    spec = harness.spec()
    ref = await start(harness, spec)
    assert harness.runs() == [ref]
    if harness.searchable:
        assert await start(harness, spec) == ref
        assert harness.runs() == await find(harness, spec) == [ref]


@everyone
async def test_started_five_times_at_once_it_is_one_run(harness: Harness) -> None:
    if not harness.searchable:
        pytest.skip(f"{harness.name} has no list: the caller's lease alone keeps starts apart")
    spec = harness.spec()
    refs = await asyncio.gather(*(start(harness, spec) for _ in range(5)))
    assert harness.runs() == [refs[0]]
    assert refs == [refs[0]] * 5


@with_each("list", "upload")
@pytest.mark.parametrize("fault", NOBODY_KNOWS.values(), ids=NOBODY_KNOWS)
async def test_what_fails_before_the_create_surely_made_no_run(
    harness: Harness, operation: str, fault: Fault
) -> None:
    harness.disturb(operation, *[fault] * MORE_THAN_RETRIED)
    error = await fails(start(harness, harness.spec()))
    assert isinstance(error, ProviderBusy)
    assert harness.runs() == []


@everyone
async def test_each_job_has_a_run_of_its_own(harness: Harness) -> None:
    specs = [harness.spec(), harness.spec()]
    refs = [await start(harness, spec) for spec in specs]
    assert len(set(refs)) == 2
    if harness.searchable:
        assert [await find(harness, spec) for spec in specs] == [[ref] for ref in refs]
        assert await find(harness, harness.spec()) == []


@pytest.mark.parametrize("fault", LOST_ANSWERS)
@with_vendors("create", "list")
async def test_a_run_whose_answer_was_lost_is_found_and_not_made_again(harness: Harness, fault: str) -> None:
    spec = harness.spec()
    harness.disturb("create", LOST_ANSWERS[fault])
    error = await fails(start(harness, spec))
    assert isinstance(error, ProviderUnavailable)
    assert not isinstance(error, ProviderBusy)
    (ref,) = harness.runs()
    assert await find(harness, spec) == [ref]
    assert await start(harness, spec) == ref
    assert harness.runs() == [ref]
    assert harness.calls("create") == 1


@with_vendors("create", "list")
async def test_two_runs_of_one_key_are_both_found_the_oldest_first(harness: Harness) -> None:
    spec = harness.spec()
    made = [harness.add_run(str(spec.job_id)) for _ in range(2)]
    harness.add_run(str(harness.spec().job_id))
    assert await find(harness, spec) == made
    harness.set_status(made[0], word_for(harness, "completed"))
    assert await find(harness, spec) == made
    assert await start(harness, spec) == made[0]
    assert harness.calls("create") == 0


@pytest.mark.parametrize("fault", [*LOST_ANSWERS, *NOBODY_KNOWS, "429", "400"])
@with_vendors("create")
async def test_one_start_sends_one_create_at_most(harness: Harness, fault: str) -> None:
    faults = LOST_ANSWERS | NOBODY_KNOWS | {"429": busy(1), "400": harness.refusal(400, "no")}
    harness.disturb("create", *[faults[fault]] * MORE_THAN_RETRIED)
    await fails(start(harness, harness.spec()))
    assert harness.calls("create") == 1


# Poll


@everyone
async def test_every_word_of_the_vendor_is_known(harness: Harness) -> None:
    assert set(harness.meanings) == harness.vendor_statuses
    assert {"training", "completed", "failed", "cancelled"} <= set(harness.meanings.values())
    for word, meaning in sorted(harness.meanings.items()):
        ref = await start(harness, harness.spec())
        harness.set_status(ref, word)
        report = await poll(harness, ref)
        assert report.status == meaning, word
        assert (report.error is not None) == (meaning == "failed"), word
        if not harness.provider.runs_our_trainer:
            model = report.result and report.result.provider_model_id
            assert (model is not None) == (meaning == "completed"), word


@with_vendors("poll")
async def test_a_word_that_the_vendor_invents_is_no_end(harness: Harness) -> None:
    ref = await start(harness, harness.spec())
    harness.set_status(ref, "recalibrating_flux")
    assert (await poll(harness, ref)).status == "training"


@with_vendors("poll")
async def test_a_poll_asks_once_and_does_not_wait(harness: Harness) -> None:
    ref = await start(harness, harness.spec())
    harness.set_status(ref, word_for(harness, "training"))
    before = harness.calls("poll")
    harness.disturb("poll", Fault(delay_seconds=0.3))
    began = time.monotonic()
    assert (await poll(harness, ref)).status == "training"
    assert time.monotonic() - began < 1.5
    assert harness.calls("poll") == before + 1


@everyone
async def test_after_the_cursor_nothing_comes_twice(harness: Harness) -> None:
    ref = await start(harness, harness.spec())
    harness.set_status(ref, word_for(harness, "training"))
    first = await poll(harness, ref)
    again = await poll(harness, ref, first.cursor)
    assert again.status == first.status
    assert again.events == again.metrics == ()
    assert again.cursor in (None, first.cursor)


# Cancel


@everyone
async def test_cancelled_twice_it_is_cancelled(harness: Harness) -> None:
    ref = await start(harness, harness.spec())
    await harness.provider.cancel(ref, key=harness.key)
    await harness.provider.cancel(ref, key=harness.key)
    async with asyncio.timeout(15):
        while (await poll(harness, ref)).status != "cancelled":
            await asyncio.sleep(0.05)
    await harness.provider.cancel(ref, key=harness.key)
    assert harness.runs() == [ref]


@pytest.mark.parametrize("ended", sorted(ENDED_STATUSES))
@everyone
async def test_a_run_that_has_ended_stays_as_it_ended(harness: Harness, ended: ReportedStatus) -> None:
    ref = await start(harness, harness.spec())
    harness.set_status(ref, word_for(harness, ended))
    await harness.provider.cancel(ref, key=harness.key)
    assert (await poll(harness, ref)).status == ended


# Errors, from real answers


@pytest.mark.parametrize("fault", NOBODY_KNOWS)
@with_each("create", "list", "poll", "cancel", "check")
async def test_silence_and_breakdowns_say_nothing(harness: Harness, operation: str, fault: str) -> None:
    await start(harness, harness.spec())
    harness.disturb(operation, *[NOBODY_KNOWS[fault]] * MORE_THAN_RETRIED)
    error = await fails(ask(harness, operation))
    assert isinstance(error, ProviderUnavailable)
    assert not isinstance(error, ProviderBusy)


@with_each("create", "list", "upload", "poll", "cancel", "check")
async def test_429_is_busy_until_the_time_that_it_names(harness: Harness, operation: str) -> None:
    await start(harness, harness.spec())
    harness.disturb(operation, *[busy(7)] * MORE_THAN_RETRIED)
    error = await fails(ask(harness, operation))
    assert isinstance(error, ProviderBusy)
    assert error.retry_after_seconds == 7


@with_each("create", "list", "upload", "poll", "cancel", "check")
async def test_401_is_the_key(harness: Harness, operation: str) -> None:
    await start(harness, harness.spec())
    harness.disturb(operation, *[harness.refusal(401, "Incorrect key.")] * MORE_THAN_RETRIED)
    # A token of the deployment is no user's to replace: their jobs wait for the operator.
    expected = ProviderKeyInvalid if harness.key else ProviderUnavailable
    assert isinstance(await fails(ask(harness, operation)), expected)


@with_each("create", "list", "poll", "cancel")
async def test_403_is_the_account_or_a_no(harness: Harness, operation: str) -> None:
    await start(harness, harness.spec())
    harness.disturb(operation, *[harness.refusal(403, "Not for you.")] * MORE_THAN_RETRIED)
    assert isinstance(await fails(ask(harness, operation)), ProviderNotEligible | ProviderRejected)


@everyone
async def test_a_run_that_the_vendor_does_not_know(harness: Harness) -> None:
    ref = harness.unknown_ref
    assert isinstance(await fails(poll(harness, ref)), ProviderRunNotFound)
    assert isinstance(await fails(harness.provider.cancel(ref, key=harness.key)), ProviderRunNotFound)


@pytest.mark.parametrize("status", [400, 422])
@with_vendors("create")
async def test_a_definite_no_carries_the_reason(harness: Harness, status: int) -> None:
    harness.disturb("create", harness.refusal(status, "The moon is in the wrong phase."))
    error = await fails(start(harness, harness.spec()))
    assert isinstance(error, ProviderRejected)
    assert "wrong phase" in error.message
    assert harness.runs() == []


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
@with_each("create", "list", "poll", "cancel", "check")
async def test_no_error_quotes_the_key(harness: Harness, operation: str, status: int) -> None:
    await start(harness, harness.spec())
    secret = harness.key.api_key.get_secret_value() if harness.key else harness.deployment_secret
    harness.disturb(operation, *[harness.refusal(status, f"Bad key {secret}!")] * MORE_THAN_RETRIED)
    error = await fails(ask(harness, operation))
    told = "".join(traceback.format_exception(error)) + repr(error.body())
    assert secret not in told


@with_vendors("check")
async def test_a_key_that_works(harness: Harness) -> None:
    assert harness.key
    await harness.provider.check_key(harness.key)
    assert harness.runs() == []


@with_vendors("delete")
async def test_a_deleted_model_may_be_deleted_again(harness: Harness) -> None:
    ref = await start(harness, harness.spec())
    harness.set_status(ref, word_for(harness, "completed"))
    result = (await poll(harness, ref)).result
    assert result
    assert result.provider_model_id
    for _ in range(2):
        await harness.provider.delete_model(result.provider_model_id, key=harness.key)


@everyone
async def test_an_estimate_starts_nothing(harness: Harness) -> None:
    estimate = harness.provider.estimate(harness.spec(), harness.file)
    assert estimate.cost_usd is None or estimate.cost_usd >= 0
    assert harness.runs() == []
