"""Waiting for what may come back, ever longer, and not for ever."""

from __future__ import annotations

import time

from modal_app.session.failures import RunFailed
from modal_app.session.stop import StopSignal
from shared.log import logger

PATIENCE_SECONDS = 1_800.0  # in which nothing came forward; a rented GPU idles meanwhile
LONGEST_RETRY_SECONDS = 30.0

log = logger("trainer")


class Patience:
    """Waits ever longer, until nothing has come forward for too long."""

    def __init__(self, stop: StopSignal, *, code: str, what: str) -> None:
        """code, what: how the run fails in the end. what: "it could not be ..."."""
        self._stop, self._code, self._what = stop, code, what
        self.renew()

    def renew(self) -> None:
        """Something has come forward."""
        self._until = time.monotonic() + PATIENCE_SECONDS
        self._delay_seconds = 0.5

    def wait(self, trouble: str) -> None:
        """Raises Stopped, and RunFailed when there is no use in waiting."""
        if time.monotonic() + self._delay_seconds > self._until:
            minutes = PATIENCE_SECONDS / 60
            raise RunFailed(self._code, f"For {minutes:.0f} minutes {self._what}: {trouble}.")
        log.warning("waits", code=self._code, reason=trouble, retry_seconds=round(self._delay_seconds, 1))
        self._stop.requested.wait(self._delay_seconds)
        self._stop.check()
        self._delay_seconds = min(LONGEST_RETRY_SECONDS, 2 * self._delay_seconds)
