"""Batches of OpenAI and of services with its API (platform.openai.com/docs/api-reference/batch, 2026-11)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import orjson

from shared.errors import ProviderRejected
from shared.llm.base import Completion
from shared.llm.batches import BatchState, Questions, answer_of, ask, not_answered, objects_in
from shared.llm.openai_compatible import OpenAICompatible

_MARK = "fineflow_batch"  # in the metadata: by it a batch is found again
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_MOST_PAGES = 20


class OpenAIBatches:
    """The batches behind one model's address and key."""

    most_questions = 5_000  # far below the 50,000 that it takes: a batch is made in memory

    def __init__(self, client: OpenAICompatible) -> None:
        self._client = client
        self._url = client.base_url

    async def submit(self, batch_id: str, questions: Questions) -> str:
        lines = [
            orjson.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})
            for name, body in questions.items()
        ]
        form = aiohttp.FormData({"purpose": "batch"})
        form.add_field(
            "file", b"\n".join(lines), filename=f"{batch_id}.jsonl", content_type="application/jsonl"
        )
        # Without the batch below this file is nothing but a file, however often it is uploaded.
        file = await self._ask("POST", "/files", data=form)
        asked = {
            "input_file_id": file["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {_MARK: batch_id},
        }
        return str((await self._ask("POST", "/batches", json=asked))["id"])

    async def find(
        self, batch_id: str, count: int, age_seconds: float, not_ours: Sequence[str]
    ) -> str | None:
        after = ""
        for _ in range(_MOST_PAGES):
            page = await self._ask("GET", f"/batches?limit=100{after}")
            for batch in page["data"]:
                if (batch.get("metadata") or {}).get(_MARK) == batch_id:
                    return str(batch["id"])
            if not page.get("has_more") or not page["data"]:
                return None
            after = f"&after={page['data'][-1]['id']}"
        return None

    async def state(self, provider_batch_id: str) -> BatchState:
        batch = await self._ask("GET", f"/batches/{provider_batch_id}")
        if batch["status"] not in _ENDED:
            return BatchState(False)
        files = [batch.get(kind) for kind in ("output_file_id", "error_file_id")]
        errors = (batch.get("errors") or {}).get("data") or []
        return BatchState(
            True,
            tuple(f"{self._url}/files/{file}/content" for file in files if file),
            str(errors[0].get("message"))[:300] if batch["status"] == "failed" and errors else None,
        )

    async def results(self, state: BatchState) -> AsyncIterator[tuple[str, Completion | ProviderRejected]]:
        for file in state.files:
            async for said in objects_in(self._client, file):
                try:
                    name, response = str(said["custom_id"]), said.get("response") or {}
                    status, body = response.get("status_code"), orjson.dumps(response.get("body"))
                except (KeyError, AttributeError):
                    continue
                if status == 200:
                    yield name, answer_of(self._client, body)
                else:
                    yield name, not_answered(said.get("error") or body.decode())

    async def cancel(self, provider_batch_id: str) -> None:
        await self._ask("POST", f"/batches/{provider_batch_id}/cancel")

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            return await ask(self._client, method, f"{self._url}{path}", **options)
        except ProviderRejected as refused:
            if refused.code == "model_not_found" and not path.startswith("/batches/"):
                raise ProviderRejected(
                    "This service has no batches. Generate without batch.", code="batch_not_offered"
                ) from refused
            raise
