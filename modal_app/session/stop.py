"""Being told to stop, by whoever says so first: a signal, a cancel file, or report-training's answer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

# Modal sends USR1 when the call is cancelled, INT when it takes the machine away and will run the call again.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopReason(StrEnum):
    """Why a run stops before its last step."""

    INTERRUPTED = "interrupted"  # this process must go; the run may be started again
    CANCELLED = "cancelled"  # nobody wants this run any more
    CLAIM_LOST = "claim_lost"  # another trainer has this job


class Stopped(Exception):
    """Raised where a run can stop with nothing lost."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(f"The run was {reason}.")
        self.reason = reason


class StopSignal:
    """Set once, read at every step. Safe from any thread and from a signal handler."""

    def __init__(self, cancel_file: Path) -> None:
        self._cancel_file = cancel_file
        self._reason: StopReason | None = None
        self.requested = threading.Event()

    @property
    def reason(self) -> StopReason | None:
        """None: go on. An interrupt that turns out to be a cancel is a cancel."""
        if self._reason in (None, StopReason.INTERRUPTED) and self._cancel_file.exists():
            self.request(StopReason.CANCELLED)
        return self._reason

    def request(self, reason: StopReason) -> None:
        """From now on `reason` holds. A final reason is not replaced by a later one."""
        if self._reason in (None, StopReason.INTERRUPTED):
            self._reason = reason
        self.requested.set()

    def check(self) -> None:
        """Raises Stopped when the run is to stop."""
        reason = self.reason
        if reason is not None:
            raise Stopped(reason)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """TERM and INT interrupt the run, USR1 cancels it. Only in the main thread: no other may do this."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        cancelled = number == signal.SIGUSR1
        self.request(StopReason.CANCELLED if cancelled else StopReason.INTERRUPTED)
