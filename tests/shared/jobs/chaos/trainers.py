"""`python -m tests.shared.jobs.chaos.trainers`: FakeTrainers as a process of its own.

They report to report-training as real ones do, and say the same thing until somebody has heard it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import threading
from typing import Any

import aiohttp

from tests.shared.jobs.crash.trainers import ENDED, FakeTrainers, Receipt, Trainer

_RETRY_SECONDS = 0.3
_GO_HOME = frozenset({401, 404, 409})


async def tell(trainer: Trainer, report: dict[str, Any]) -> Receipt:
    """What report-training says to it, however long it takes to get an answer."""
    body = {"attempt": trainer.attempt, "runId": trainer.run_id, "reports": [report]}
    body["providerJobId"] = trainer.ref
    headers = {"authorization": f"Bearer {trainer.token}"}
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        while trainer.phase not in ENDED:
            try:
                async with session.post(trainer.url, json=body) as answer:
                    if answer.status == 200:
                        return Receipt(True, (await answer.json())["cancelRequested"])
                    if answer.status in _GO_HOME:
                        return Receipt(False)
            except (aiohttp.ClientError, TimeoutError):
                pass  # it is asked again below
            await asyncio.sleep(_RETRY_SECONDS)
    return Receipt(False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds-per-report", type=float, required=True)
    asked = parser.parse_args()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with FakeTrainers(tell, port=asked.port, seconds_per_report=asked.seconds_per_report):
        stopped.wait()


if __name__ == "__main__":
    main()
