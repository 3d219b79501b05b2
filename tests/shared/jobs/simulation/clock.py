"""An event loop whose time is imagined: it jumps to the next timer, so hours pass in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Timers(selectors.SelectSelector):
    """Waits for nothing: there is no file to wait for, and time moves as far as was asked for."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for something that will never happen")
        self.now += max(timeout, 0)
        return []


class ImaginedTime(asyncio.SelectorEventLoop):
    """The same program gives the same order of events, always."""

    def __init__(self) -> None:
        self._timers = _Timers()
        super().__init__(self._timers)

    def time(self) -> float:
        return self._timers.now


def run_imagined(main: Coroutine[Any, Any, Any]) -> Any:
    """What `main` returns, at once, whatever time it takes."""
    loop = ImaginedTime()
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)  # of processes that were killed
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        for task in left:
            task.cancelled() or task.exception()  # looked at: nobody else will
        loop.close()
