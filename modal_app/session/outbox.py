"""Sends reports in their order, as often as it takes, while training goes on."""

from __future__ import annotations

import random
import threading
import time
from collections import deque

from modal_app.session.delivery import ClaimLost, Delivery, Refused, Unreachable
from modal_app.session.stop import StopReason, StopSignal
from shared.log import logger
from shared.training.spec import Callback, ReportBatch, RunSpec, TrainerReport

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 8.0
LAST_RETRY_SECONDS = 0.5  # while the process waits to end
REPORTS_A_POST = 100

log = logger("trainer")


class Outbox:
    """A queue and the thread that empties it. Without a callback it swallows everything.

    Of progress only the newest waiting report is kept; claims, events and the result all wait their turn.
    """

    def __init__(self, callback: Callback | None, spec: RunSpec, stop: StopSignal) -> None:
        self._delivery = Delivery(callback) if callback else None
        self._spec = spec
        self._stop = stop
        self._waiting: deque[TrainerReport] = deque()
        self._in_flight = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def claim(self, report: TrainerReport, *, patience_seconds: float) -> int:
        """The job is ours afterwards; the number up to which everything is stored over there.

        Raises ClaimLost, Stopped, or Unreachable when patience ends.
        """
        deadline = time.monotonic() + patience_seconds
        delay = FIRST_RETRY_SECONDS
        accepted_seq = report.seq
        while self._delivery is not None:
            try:
                accepted_seq = self._send([report])
                break
            except Unreachable:
                if time.monotonic() + delay > deadline:
                    raise
            self._stop.requested.wait(delay)
            self._stop.check()
            delay = _longer(delay)
        self._thread.start()
        return accepted_seq

    def put(self, report: TrainerReport) -> None:
        """The report will be sent after those before it. Never waits for the network."""
        if self._delivery is None:
            return
        with self._changed:
            replaceable = len(self._waiting) > self._in_flight
            if replaceable and report.kind == self._waiting[-1].kind == "progress":
                self._waiting.pop()
            self._waiting.append(report)
            self._changed.notify()

    def close(self, *, within_seconds: float) -> bool:
        """Whether all was delivered in time. What was not stays in the run directory."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(within_seconds)
        return not self._waiting

    def _run(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while batch := self._next_batch():
            try:
                self._forget(self._send(batch))
                delay = FIRST_RETRY_SECONDS
            except ClaimLost:
                self._stop.request(StopReason.CLAIM_LOST)
                return
            except Refused as refusal:
                log.error("reports_refused", reason=str(refusal), seqs=[report.seq for report in batch])
                self._forget(batch[-1].seq)
            except Unreachable as trouble:
                log.warning("callback_unreachable", reason=str(trouble), retry_seconds=round(delay, 1))
                self._forget(0)
                if self._closing.wait(delay):
                    time.sleep(LAST_RETRY_SECONDS)
                delay = _longer(delay)

    def _next_batch(self) -> list[TrainerReport]:
        """What to send next; empty: all is sent and nothing more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            batch = list(self._waiting)[:REPORTS_A_POST]
            self._in_flight = len(batch)
            return batch

    def _send(self, reports: list[TrainerReport]) -> int:
        """The number up to which everything is stored over there."""
        assert self._delivery is not None
        receipt = self._delivery.post(
            ReportBatch(attempt=self._spec.attempt, run_id=self._spec.run_id, reports=reports)
        )
        if receipt.cancel_requested:
            self._stop.request(StopReason.CANCELLED)
        return receipt.accepted_seq

    def _forget(self, accepted_seq: int) -> None:
        """Nothing is in flight, and what is stored over there no longer waits here."""
        with self._changed:
            self._in_flight = 0
            while self._waiting and self._waiting[0].seq <= accepted_seq:
                self._waiting.popleft()


def _longer(delay_seconds: float) -> float:
    return min(LONGEST_RETRY_SECONDS, delay_seconds * 2) * random.uniform(0.8, 1.2)
