"""Anthropic's Message Batches (platform.claude.com/docs/en/build-with-claude/batch-processing, 2026-11).

A batch carries no mark of ours, only its questions do, and their names are told when it has ended. So a batch
that is looked for is one of the right size and age, and when its results bear other names it was not ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from shared.errors import ProviderRejected
from shared.llm.anthropic import Anthropic
from shared.llm.base import Completion
from shared.llm.batches import BatchState, Questions, answer_of, ask, not_answered, objects_in

_CLOCKS_APART_SECONDS = 120.0
_MOST_PAGES = 20


class AnthropicBatches:
    """The batches behind one model's address and key."""

    most_questions = 5_000  # far below the 100,000 that it takes: a batch is made in memory

    def __init__(self, client: Anthropic) -> None:
        self._client = client
        self._url = f"{client.base_url}/v1/messages/batches"

    async def submit(self, batch_id: str, questions: Questions) -> str:
        requests = [{"custom_id": name, "params": body} for name, body in questions.items()]
        return str((await ask(self._client, "POST", self._url, json={"requests": requests}))["id"])

    async def find(
        self, batch_id: str, count: int, age_seconds: float, not_ours: Sequence[str]
    ) -> str | None:
        oldest = datetime.now(UTC) - timedelta(seconds=age_seconds + _CLOCKS_APART_SECONDS)
        after = ""
        for _ in range(_MOST_PAGES):
            page = await ask(self._client, "GET", f"{self._url}?limit=100{after}")
            for batch in page["data"]:
                if datetime.fromisoformat(batch["created_at"]) < oldest:
                    return None  # the newest come first
                if sum(batch["request_counts"].values()) == count and batch["id"] not in not_ours:
                    return str(batch["id"])
            if not page.get("has_more"):
                return None
            after = f"&after_id={page['last_id']}"
        return None

    async def state(self, provider_batch_id: str) -> BatchState:
        batch = await ask(self._client, "GET", f"{self._url}/{provider_batch_id}")
        if batch["processing_status"] != "ended":
            return BatchState(False)
        # Not `results_url`: our key goes to the address that we know, and to no other.
        return BatchState(True, (f"{self._url}/{provider_batch_id}/results",))

    async def results(self, state: BatchState) -> AsyncIterator[tuple[str, Completion | ProviderRejected]]:
        for file in state.files:
            async for said in objects_in(self._client, file):
                try:
                    name, result = str(said["custom_id"]), said["result"]
                    kind = result["type"]
                except (KeyError, TypeError):
                    continue
                if kind == "succeeded":
                    yield name, answer_of(self._client, orjson.dumps(result.get("message")))
                else:
                    error = result.get("error")
                    inner = error.get("error") if isinstance(error, dict) else error
                    yield name, not_answered(inner or kind)

    async def cancel(self, provider_batch_id: str) -> None:
        await ask(self._client, "POST", f"{self._url}/{provider_batch_id}/cancel")
