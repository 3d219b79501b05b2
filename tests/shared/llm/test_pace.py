"""Calls keep to what a vendor takes, and none is lost. The vendor here answers after 20 ms."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.errors import ProviderRejected
from shared.llm.base import Completion, JsonSchema, TryLater, Turn
from shared.llm.limits import Limit
from shared.llm.pace import Paced

TURNS = [Turn("user", "What is 2 + 2?")]
LATENCY_SECONDS = 0.02


class Vendor:
    """Takes `most` calls at once; `limits` come with each answer."""

    name = "vendor/model"

    def __init__(self, most: int = 1_000_000, retry_after_seconds: float | None = None) -> None:
        self.most = most
        self.retry_after_seconds = retry_after_seconds
        self.limits: tuple[Limit, ...] = ()
        self.under_way = self.highest = self.calls = self.turned_away = 0

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        self.calls += 1
        if self.under_way >= self.most:
            self.turned_away += 1
            raise TryLater("No.", retry_after_seconds=self.retry_after_seconds, too_fast=True)
        self.under_way += 1
        self.highest = max(self.highest, self.under_way)
        try:
            await asyncio.sleep(LATENCY_SECONDS)
        finally:
            self.under_way -= 1
        return Completion("4", 9, 1, self.limits)

    async def close(self) -> None:
        pass


async def ask(model: Paced, count: int) -> list[Completion | BaseException]:
    return await asyncio.gather(*(model.complete(TURNS) for _ in range(count)), return_exceptions=True)


async def test_the_window_opens_to_its_most_and_no_further() -> None:
    vendor = Vendor()
    answers = await ask(Paced(vendor, most_at_once=40), 800)
    assert {answer.text for answer in answers if isinstance(answer, Completion)} == {"4"}
    assert vendor.highest == 40
    assert vendor.calls == len(answers) == 800


async def test_a_vendor_that_takes_few_at_once_answers_all() -> None:
    vendor = Vendor(most=6)
    model = Paced(vendor, most_at_once=200)
    answers = await ask(model, 400)
    assert all(isinstance(answer, Completion) for answer in answers)
    assert model.at_once <= 12
    assert vendor.turned_away < 200


async def test_a_limit_in_the_headers_is_kept_and_nobody_is_turned_away() -> None:
    vendor = Vendor()
    vendor.limits = (Limit("requests", "requests", 0, 0.05, 5),)  # a hundred a second, five to spare
    model = Paced(vendor, most_at_once=200)
    await ask(model, 1)
    started = asyncio.get_running_loop().time()
    vendor.limits = ()
    await ask(model, 40)
    took = asyncio.get_running_loop().time() - started
    assert took >= 0.33
    assert vendor.turned_away == 0


async def test_each_limit_counts_what_it_is_of() -> None:
    vendor = Vendor()  # a call takes 9 tokens to ask and 1 to answer
    vendor.limits = (Limit("out", "completion_tokens", 0, 0.05, 5), Limit("in", "prompt_tokens", 5, 0, 5))
    model = Paced(vendor, most_at_once=200)
    await ask(model, 1)
    vendor.limits = ()
    started = asyncio.get_running_loop().time()
    await ask(model, 20)  # at a hundred a second; and each is dearer than all of the other limit
    assert 0.13 <= asyncio.get_running_loop().time() - started < 2


async def test_a_quota_that_is_used_up_is_asked_for_once() -> None:
    vendor = Vendor(most=0, retry_after_seconds=3600)
    model = Paced(vendor, first_at_once=1)
    answers = await ask(model, 50)
    assert all(isinstance(answer, TryLater) for answer in answers)
    with pytest.raises(TryLater) as later:
        await model.complete(TURNS)
    assert 3500 < (later.value.retry_after_seconds or 0) <= 3600
    assert vendor.calls == 1


async def test_a_place_comes_back_whatever_ends_a_call() -> None:
    class Moody(Vendor):
        async def complete(
            self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None
        ) -> Completion:
            answer = await super().complete(turns, json_schema=json_schema)
            if self.calls % 3 == 0:
                raise ProviderRejected("No.")
            return answer

    model = Paced(Moody(), first_at_once=2, most_at_once=2)
    calls = [asyncio.create_task(model.complete(TURNS)) for _ in range(30)]
    await asyncio.sleep(LATENCY_SECONDS)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    async with asyncio.timeout(5):
        await ask(model, 6)
