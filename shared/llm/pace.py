"""Asks a model as often as it will answer: how many calls at once, how fast, and when once more.

Three things hold the calls back, and each is learned from the answers:

window   how many may be under way. It doubles every round trip until the vendor first says that it takes less
         (429, 529). Then each round trip it shrinks by the share of calls that was turned away (by half of it
         where that is few), or grows by 3 %, and by half more each time that nobody was. So it settles at
         what the vendor lets through, be that calls at once or calls a second, and when the vendor takes a
         quarter it is at a quarter a round trip later. (The rule of DCTCP, RFC 8257, where marks are 429s.)
         From then on its calls start evenly over the round trip: who counts by the second turns bursts away.
limits   buckets that fill up as the headers say (shared.llm.limits). Where a vendor sends them, calls wait
         here and nobody is turned away.
pause    Retry-After. The call that was told waits as long, and all others too where it is long: they wait for
         a quota, and not for a rate. When it is very long, every call is given back at once.

A call that was turned away goes to the head of the queue after a random part of a wait that doubles.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence

from shared.errors import ProviderRejected
from shared.llm.base import ChatModel, Completion, JsonSchema, TryLater, Turn
from shared.llm.bucket import Bucket
from shared.llm.limits import Unit

FIRST_AT_ONCE = 8
MOST_AT_ONCE = 64
_ATTEMPTS = 3  # of a call that fails; being turned away for the rate does not count
# A longer wait is left to the lease of the chunk, so that no function sits it out.
_LONGEST_WAIT_SECONDS = 20.0
_TRYING_SECONDS = 60.0  # after it no call is tried once more: a chunk in hand is held for 300
_LONG_WAIT_SECONDS = 5.0
_SLOWEST_GROWTH, _FASTEST_GROWTH = 0.03, 1.0  # of the window, a round trip
_NEARLY_NONE = 0.02  # turned away: the window is as wide as can be
_FEW = 0.2  # turned away: chance as much as a window that is too wide, so half of it is cut
_MOST_CUT = 0.75  # of the window, at once
_STARTS = 1.05  # calls start at this many times the pace of the window, so that the window is what counts
_BURST_SECONDS = 0.05  # so much of that pace may start together: no clock of a busy machine is finer
_FIRST_GUESS_SECONDS = 0.2  # of a round trip, before one was measured


class Paced:
    """The same model, asked at the pace that it can take. Many callers may share it.

    At most `most_at_once` calls are under way, `first_at_once` of them before anything is known.
    """

    def __init__(
        self, model: ChatModel, *, first_at_once: int = FIRST_AT_ONCE, most_at_once: int = MOST_AT_ONCE
    ) -> None:
        self._model = model
        self._most = most_at_once
        self._window = float(min(first_at_once, most_at_once))
        self._growth = _FASTEST_GROWTH
        self._under_way = 0
        self._resting = 0  # places of calls that were turned away, held for a round trip
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._round_trip_seconds = _FIRST_GUESS_SECONDS
        self._round_ends_at = self._cut_at = 0.0
        self._started = self._turned_away = 0  # in this round trip
        self._was_full = False
        self._may_start = 1.0
        self._may_start_at = 0.0  # when that was so
        self._paused_until = 0.0
        self._buckets: dict[str, Bucket] = {}
        self._sent = 0
        self._wake_up: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def at_once(self) -> int:
        """How many calls may be under way now."""
        return max(1, int(self._window))

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        """As the model's. Raises TryLater when it stays away for three attempts, asks for a longer wait than
        20 s, or turned this call away for 60 s; only waiting for a place has no end."""
        failures = rejections = 0
        first_sent_at: float | None = None
        while True:
            await self._admitted(is_again=failures + rejections > 0)
            sent_at, sent = _now(), self._sent
            try:
                answer = await self._model.complete(turns, json_schema=json_schema)
            except TryLater as later:
                self._freed(rejected_since=sent_at if later.too_fast else None)
                first_sent_at = first_sent_at or sent_at
                failures += not later.too_fast
                rejections += later.too_fast
                wait = self._wait_seconds(later, failures + rejections)
                is_hopeless = failures >= _ATTEMPTS or wait > _LONGEST_WAIT_SECONDS
                if is_hopeless or _now() + wait - first_sent_at > _TRYING_SECONDS:
                    raise
                await asyncio.sleep(wait)
            except (ProviderRejected, asyncio.CancelledError):
                self._freed()
                raise
            else:
                self._learn(answer, sent_at, sent)
                self._freed(answered=True)
                return answer

    async def close(self) -> None:
        if self._wake_up is not None:
            self._wake_up.cancel()
        await self._model.close()

    # --- who may call ---

    async def _admitted(self, *, is_again: bool) -> None:
        if is_again or self._waiting or self._seconds_to_wait() > 0:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.appendleft(place) if is_again else self._waiting.append(place)
            self._admit()
            try:
                await place
            except asyncio.CancelledError:
                if (
                    place.done() and not place.cancelled() and place.exception() is None
                ):  # a place was given to who went away
                    self._freed()
                raise
        else:
            self._take()

    def _admit(self) -> None:
        """Lets in who may call now, and sets the clock for the next."""
        if self._paused_until - _now() > _LONGEST_WAIT_SECONDS:
            self._give_up()
        while self._waiting:
            if self._waiting[0].done():  # cancelled
                self._waiting.popleft()
                continue
            wait = self._seconds_to_wait()
            if wait > 0:
                if self._wake_up is None and wait < float("inf"):
                    self._wake_up = asyncio.get_running_loop().call_later(wait, self._woken)
                return
            self._take()
            self._waiting.popleft().set_result(None)

    def _woken(self) -> None:
        self._wake_up = None
        self._admit()

    def _seconds_to_wait(self) -> float:
        """0: a call may start. Infinite: when another one ends."""
        if self._under_way + self._resting >= self.at_once:
            self._was_full = True
            return float("inf")
        now = _now()
        waits = [bucket.seconds_to_wait(now) for bucket in self._buckets.values()]
        return max(self._paused_until - now, self._seconds_to_start(now), *waits)

    def _seconds_to_start(self, now: float) -> float:
        if not self._cut_at:
            return 0.0  # nobody was turned away yet
        per_second = self.at_once * _STARTS / self._round_trip_seconds
        most = max(2.0, per_second * _BURST_SECONDS)
        self._may_start = min(most, self._may_start + (now - self._may_start_at) * per_second)
        self._may_start_at = now
        return max(0.0, (1 - self._may_start) / per_second)

    def _give_up(self) -> None:
        """Every call that waits is told to come back when the pause is over."""
        wait = self._paused_until - _now()
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(
                    TryLater(f"{self.name} takes nothing for now.", retry_after_seconds=wait, too_fast=True)
                )

    def _take(self) -> None:
        self._under_way += 1
        self._sent += 1
        self._started += 1
        self._may_start -= 1
        for bucket in self._buckets.values():
            bucket.take()

    def _freed(self, *, answered: bool = False, rejected_since: float | None = None) -> None:
        self._under_way -= 1
        if rejected_since is not None:
            # What was sent before the window was cut is no news.
            self._turned_away += rejected_since >= self._cut_at
            # Its place rests as long as an answer would have taken: a 429 comes at once, and calls that are
            # let in as fast as they are turned away help nobody.
            self._resting += 1
            asyncio.get_running_loop().call_later(self._round_trip_seconds, self._rested)
        if answered or rejected_since is not None:
            self._end_of_round()
        self._admit()

    def _rested(self) -> None:
        self._resting -= 1
        self._admit()

    # --- what is learned ---

    def _end_of_round(self) -> None:
        now = _now()
        if now < self._round_ends_at:
            return
        share = min(_MOST_CUT, self._turned_away / max(1, self._started))
        if share > _NEARLY_NONE:
            cut = share if share > _FEW else share / 2
            self._window = max(1.0, self._window * (1 - cut))
            self._growth = _SLOWEST_GROWTH
            self._cut_at = now
        elif self._was_full:  # a window that nobody needed says nothing
            grown = self._window + max(0.25, self._window * self._growth)
            self._window = min(float(self._most), grown)
            self._growth = _SLOWEST_GROWTH if share else min(_FASTEST_GROWTH, self._growth * 1.5)
        self._started = self._turned_away = 0
        self._was_full = False
        self._round_ends_at = now + self._round_trip_seconds

    def _learn(self, answer: Completion, sent_at: float, sent: int) -> None:
        took = _now() - sent_at
        # What an answer took longer is more often our own queue than the vendor's.
        weight = 1 / 2 if took < self._round_trip_seconds else 1 / 16
        self._round_trip_seconds += (took - self._round_trip_seconds) * weight
        took_of: dict[Unit, int] = {
            "requests": 1,
            "tokens": answer.prompt_tokens + answer.completion_tokens,
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        }
        for limit in answer.limits:
            bucket = self._buckets.setdefault(limit.kind, Bucket(limit, _now()))
            bucket.learn(limit, sent_at, _now(), self._sent - sent, took_of[limit.unit])

    def _wait_seconds(self, later: TryLater, attempt: int) -> float:
        """How long this call waits; what the vendor asked for, all others wait too."""
        longest = min(8.0, self._round_trip_seconds * 2**attempt)
        asked = later.retry_after_seconds
        if asked is None:
            return random.uniform(0, longest)
        if asked >= _LONG_WAIT_SECONDS:
            self._paused_until = max(self._paused_until, _now() + asked)
        return asked + random.uniform(0, min(longest, self._round_trip_seconds))


def _now() -> float:
    return asyncio.get_running_loop().time()
