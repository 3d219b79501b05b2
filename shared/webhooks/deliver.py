"""Sends what is due: many endpoints at once, and none of them waits for another."""

from __future__ import annotations

import asyncio
import random
import time

import orjson

from shared.errors import FineFlowError
from shared.log import logger
from shared.webhooks.send import Answer, Sender, sender
from shared.webhooks.sign import signed_headers
from shared.webhooks.store import Delivery, WebhookStore

# After the first attempt, and after each further one: three days in all, then it is dead.
RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
AT_ONCE = 20
AT_ONCE_PER_ENDPOINT = 4
_LOOK_SECONDS = 1.0  # how often new ones are looked for while slow ones are waited for
_GONE = 410
_LONGEST_WAIT_SECONDS = 86_400.0
_log = logger("webhooks")


async def deliver_due(
    store: WebhookStore, *, allow_private_addresses: bool, patience_seconds: float = 40
) -> int:
    """How many attempts were made. Each is recorded; what failed is due again later.

    Ends when nothing is due; takes no new ones after `patience_seconds`, and at most 15 s longer.
    """
    until = time.monotonic() + patience_seconds
    attempts = 0
    running: set[asyncio.Task[Answer]] = set()
    async with sender(allow_private=allow_private_addresses) as to:
        try:
            while True:
                free = AT_ONCE - len(running) if time.monotonic() < until else 0
                claimed = await store.claim(free, per_endpoint=AT_ONCE_PER_ENDPOINT) if free else []
                running |= {asyncio.create_task(attempt(store, to, delivery)) for delivery in claimed}
                attempts += len(claimed)
                if not running:
                    return attempts
                _, running = await asyncio.wait(
                    running, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            for task in running:
                task.cancel()


async def attempt(store: WebhookStore, to: Sender, delivery: Delivery) -> Answer:
    """One attempt, recorded. Never raises: what goes wrong on our side is a failed attempt too."""
    try:
        answer = await _post(store, to, delivery)
    except FineFlowError as error:
        answer = Answer(None, error.message)
    except Exception:
        _log.exception("webhook not sent", delivery_id=str(delivery.id))
        answer = Answer(None, "Something went wrong on our side.")
    try:
        await store.finish(
            delivery,
            status_code=answer.status_code,
            error=answer.error,
            retry_seconds=_retry_seconds(delivery, answer),
        )
    except Exception:  # its lease ends, and it is sent again: receivers know the id
        _log.exception("webhook not recorded", delivery_id=str(delivery.id))
    return answer


async def _post(store: WebhookStore, to: Sender, delivery: Delivery) -> Answer:
    body = orjson.dumps(delivery.payload)
    headers = signed_headers(body, delivery.event_id, int(time.time()), store.secrets(delivery))
    return await to.post(delivery.url, body, headers)


def _retry_seconds(delivery: Delivery, answer: Answer) -> float | None:
    """None: this was the last attempt."""
    if delivery.type == "ping" or answer.status_code == _GONE or delivery.attempts > len(RETRY_SECONDS):
        return None
    wait = RETRY_SECONDS[delivery.attempts - 1] * random.uniform(0.8, 1.2)
    return min(max(wait, answer.retry_after_seconds or 0), _LONGEST_WAIT_SECONDS * 1.2)
