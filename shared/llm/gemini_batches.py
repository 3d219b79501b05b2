"""Gemini's batches (ai.google.dev/gemini-api/docs/batch-api, /api/batch-api and /api/files, 2026-11).

Questions go as a file and the answers come as one. Inline nobody could tell whose answer is which: they may
lack the name of their question, and come in another order (googleapis/python-genai, issues 2008 and 1909).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from shared.errors import ProviderRejected
from shared.llm.base import Completion, TryLater
from shared.llm.batches import BatchState, Questions, answer_of, ask, not_answered, objects_in
from shared.llm.gemini import Gemini
from shared.log import redact

_VERSION = "v1beta"  # the only one whose batches are documented
# What follows BATCH_STATE_, or JOB_STATE_ as the SDKs and parts of the guide say.
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
_MOST_PAGES = 20
_FILE_KIND = "application/jsonl"


class GeminiBatches:
    """The batches behind one model's address and key."""

    # The lowest paid tier queues 3,000,000 tokens of a Flash model, and turns away for ever what is larger
    # (ai.google.dev/gemini-api/docs/rate-limits). These have 1,000 each or so; a file may have 2 GB.
    most_questions = 1_000

    def __init__(self, client: Gemini) -> None:
        self._client = client
        self._url = f"{client.base_url}/{_VERSION}"

    async def submit(self, batch_id: str, questions: Questions) -> str:
        lines = [orjson.dumps({"key": name, "request": body}) for name, body in questions.items()]
        file = await self._upload(batch_id, b"\n".join(lines))
        asked = {"batch": {"displayName": batch_id, "inputConfig": {"fileName": file}}}
        model = self._client.model.removeprefix("models/")
        try:
            batch = await self._ask("POST", f"/models/{model}:batchGenerateContent", json=asked)
        except (TryLater, ProviderRejected) as refused:
            if not isinstance(refused, TryLater) or refused.too_fast:
                # Nobody reads it any more. It would be gone in 48 hours, but a project has 20 GB for all.
                with contextlib.suppress(TryLater, ProviderRejected):
                    await self._client.send("DELETE", f"{self._url}/{file}")
            raise
        return str(batch["name"])

    async def find(
        self, batch_id: str, count: int, age_seconds: float, not_ours: Sequence[str]
    ) -> str | None:
        asked = {"pageSize": "100"}
        for _ in range(_MOST_PAGES):
            page = await self._ask("GET", "/batches", params=asked)
            for batch in page.get("operations") or []:
                if batch["metadata"].get("displayName") == batch_id:
                    return str(batch["name"])
            if not page.get("nextPageToken"):
                return None
            asked["pageToken"] = page["nextPageToken"]
        return None

    async def state(self, provider_batch_id: str) -> BatchState:
        batch = await self._ask("GET", f"/{provider_batch_id}")
        word = batch["metadata"].get("state", "").rpartition("_STATE_")[2]
        if word not in _ENDED:
            return BatchState(False)
        output = batch["metadata"].get("output") or {}
        # Without its answers a batch that was processed has not ended for us: they are paid.
        file = output["responsesFile"] if word == "SUCCEEDED" else output.get("responsesFile")
        url = f"{self._client.base_url}/download/{_VERSION}/{file}:download?alt=media"
        error = (batch.get("error") or {}).get("message")
        return BatchState(
            True, (url,) if file else (), redact(str(error))[:300] if word == "FAILED" else None
        )

    async def results(self, state: BatchState) -> AsyncIterator[tuple[str, Completion | ProviderRejected]]:
        for file in state.files:
            async for said in objects_in(self._client, file):
                if "key" not in said:
                    continue
                if isinstance(said.get("response"), dict):
                    yield str(said["key"]), answer_of(self._client, orjson.dumps(said["response"]))
                else:
                    yield str(said["key"]), not_answered(said.get("error") or said.get("status"))

    async def cancel(self, provider_batch_id: str) -> None:
        await self._ask("POST", f"/{provider_batch_id}:cancel")

    async def _upload(self, name: str, content: bytes) -> str:
        """Google's name of a new file with this content."""
        about = {"file": {"displayName": name, "mimeType": _FILE_KIND, "sizeBytes": str(len(content))}}
        start = {
            "x-goog-upload-protocol": "resumable",
            "x-goog-upload-command": "start",
            "x-goog-upload-header-content-length": str(len(content)),
            "x-goog-upload-header-content-type": _FILE_KIND,
        }
        base = self._client.base_url
        headers, _ = await self._client.send(
            "POST", f"{base}/upload/{_VERSION}/files", json=about, headers=start
        )
        url = headers["x-goog-upload-url"]
        if urlsplit(url)[:2] != urlsplit(base)[:2]:
            # Our key goes to the address that we know, and to no other.
            raise ProviderRejected(
                "The file of questions is wanted at another address than Gemini's.",
                code="model_answer_unreadable",
            )
        whole = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0"}
        made = await ask(self._client, "POST", url, data=content, headers=whole)
        return str(made["file"]["name"])

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        return await ask(self._client, method, f"{self._url}{path}", **options)
