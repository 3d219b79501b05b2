"""What is left of a vendor's limit by now: told with each answer, counted in between."""

from __future__ import annotations

from shared.llm.limits import Limit


class Bucket:
    """One limit of the vendor as it stands by now, as far as we can tell."""

    def __init__(self, limit: Limit, now: float) -> None:
        self._level = limit.remaining
        self._level_at = now
        self._read_at = 0.0
        self._per_second = limit.per_second
        self._size = limit.size
        self._cost = 1.0  # of one call; tokens are known afterwards, so their mean is taken

    def seconds_to_wait(self, now: float) -> float:
        self._fill(now)
        # A call that is dearer than the whole limit starts when that is full.
        missing = min(self._cost, self._size) - self._level
        if missing <= 0 or self._per_second is None:
            return 0.0
        return missing / self._per_second

    def take(self) -> None:
        self._level -= self._cost

    def learn(self, limit: Limit, sent_at: float, now: float, sent_since: int, took: float) -> None:
        """`sent_at`: of the call that brought this limit, and of which it `took` so much; `sent_since`: calls
        that it does not count yet."""
        self._cost = took if self._read_at == 0 else self._cost + (took - self._cost) / 8
        self._per_second = limit.per_second or self._per_second
        if sent_at < self._read_at:
            return  # an answer that was overtaken
        self._read_at, self._level_at, self._size = sent_at, now, limit.size
        # It stood so when the vendor took the call, a round trip ago at most: since then it has filled up.
        filled = (now - sent_at) * (self._per_second or 0.0)
        self._level = min(self._size, limit.remaining + filled - sent_since * self._cost)

    def _fill(self, now: float) -> None:
        if self._per_second is not None:
            self._level = min(self._size, self._level + (now - self._level_at) * self._per_second)
        self._level_at = now
