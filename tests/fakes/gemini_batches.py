"""Files and batches of Google's Gemini API: a file of questions in, a file of answers out.

Contract: ai.google.dev/gemini-api/docs/batch-api, /api/batch-api and /api/files (2026-11). Batches of inline
requests are refused: nobody here asks for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.fakes.google_errors import refuse
from tests.fakes.http import FakeServer, Handler

_OPEN = ("BATCH_STATE_PENDING", "BATCH_STATE_RUNNING")
_BATCH = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"


class GeminiBatchServer(FakeServer):
    """What FakeGemini is built upon."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.files: dict[str, bytes] = {}  # by name, uploaded and made
        self.batches: dict[str, dict[str, Any]] = {}  # operations by name, the oldest first
        self.upload_host: str | None = None  # where files are wanted; None: here
        self._uploads: list[dict[str, Any]] = []  # that were started
        self._cancelling: set[str] = set()

    def content(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body of what is answered to this question."""
        raise NotImplementedError

    def refused_key(self, request: web.Request) -> web.Response | None:
        raise NotImplementedError

    def unknown_model(self, request: web.Request) -> web.Response | None:
        raise NotImplementedError

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [
            ("POST", "/upload/v1beta/files", "upload", self._upload),
            ("DELETE", "/v1beta/files/{id}", "delete_file", self._delete_file),
            ("GET", "/download/v1beta/files/{id}:download", "results", self._download),
            ("GET", "/v1beta/files/{id}:download", "results", self._download),
            ("POST", "/v1beta/models/{model}:batchGenerateContent", "submit", self._submit),
            ("GET", "/v1beta/batches", "list", self._list),
            ("GET", "/v1beta/batches/{id}", "poll", self._poll),
            ("POST", "/v1beta/batches/{id}:cancel", "cancel", self._cancel),
        ]

    async def _upload(self, request: web.Request) -> web.Response:
        """Both steps of a resumable upload: its start, and all bytes at once."""
        if "upload_id" in request.query:  # the id is permission enough
            return await self._upload_bytes(request, self._uploads[int(request.query["upload_id"])])
        if refusal := self.refused_key(request):
            return refusal
        said = {name: request.headers.get(f"x-goog-upload-{name}") for name in ("protocol", "command")}
        size = request.headers.get("x-goog-upload-header-content-length", "")
        kind = request.headers.get("x-goog-upload-header-content-type")
        if said != {"protocol": "resumable", "command": "start"} or not size.isdigit() or not kind:
            return refuse(400, "The upload is not started as a resumable one.")
        file = (await request.json()).get("file") or {}
        self._uploads.append({"name": file.get("displayName", ""), "size": int(size), "kind": kind})
        query = f"upload_id={len(self._uploads) - 1}&upload_protocol=resumable"
        url = f"{self.upload_host or self.url}/upload/v1beta/files?{query}"
        return web.Response(headers={"x-goog-upload-url": url, "x-goog-upload-status": "active"})

    async def _upload_bytes(self, request: web.Request, started: dict[str, Any]) -> web.Response:
        content = await request.read()
        steps = [step.strip() for step in request.headers.get("x-goog-upload-command", "").split(",")]
        if steps != ["upload", "finalize"] or request.headers.get("x-goog-upload-offset") != "0":
            return refuse(400, "All bytes are expected, from offset 0.")
        if len(content) != started["size"]:
            return refuse(400, "The size is not the one that was said at the start.")
        name = f"files/up{len(self._uploads):02}"
        self.files[name] = content
        file = {
            "name": name,
            "displayName": started["name"],
            "mimeType": started["kind"],
            "sizeBytes": str(len(content)),
            "state": "ACTIVE",
            "source": "UPLOADED",
        }
        return web.json_response({"file": file}, headers={"x-goog-upload-status": "final"})

    async def _delete_file(self, request: web.Request) -> web.Response:
        if refusal := self.refused_key(request):
            return refusal
        if self.files.pop(f"files/{request.match_info['id']}", None) is None:
            return refuse(403, "You do not have permission to access the File or it may not exist.")
        return web.json_response({})

    async def _download(self, request: web.Request) -> web.Response:
        name = f"files/{request.match_info['id']}"
        if refusal := self.refused_key(request):
            return refusal
        is_made = name in self.files and name.startswith("files/batch-")
        if not is_made or request.query.get("alt") != "media":
            return refuse(400, f"Only generated files can be downloaded: {name}.")
        return web.Response(body=self.files[name], content_type="application/jsonl")

    # --- batches ---

    def end_batches(self, spoil: Callable[[int, bytes], bytes] = lambda place, line: line) -> None:
        """What was submitted is processed; `spoil` may change a line of the results, at its place from 0."""
        for name, batch in self.batches.items():
            if batch["metadata"]["state"] not in _OPEN:
                continue
            if name in self._cancelling:
                self.end_batch(name, "CANCELLED", {"code": 1, "message": "The operation was cancelled."})
                continue
            try:
                questions = [json.loads(line) for line in self._lines_of(batch)]
                lines = [self._line(asked["key"], asked["request"]) for asked in questions]
            except (ValueError, KeyError):
                self.end_batch(name, "FAILED", {"code": 3, "message": "The input file cannot be read."})
                continue
            made = f"files/batch-{name.removeprefix('batches/')}"
            # That they come in the order of the questions is promised, and was not always kept.
            self.files[made] = b"\n".join([spoil(i, line) for i, line in enumerate(lines)][::-1]) + b"\n"
            output = {"responsesFile": made}
            self.end_batch(name, "SUCCEEDED")
            batch["metadata"]["output"] = output
            batch["response"] = {"@type": f"{_BATCH}Output", **output}

    def end_batch(self, name: str, word: str, error: dict[str, Any] | None = None) -> None:
        """The batch is over, without results."""
        self.batches[name]["done"] = True
        self.batches[name]["metadata"] |= {"state": f"BATCH_STATE_{word}", "endTime": _moment()}
        if error is not None:
            self.batches[name]["error"] = error

    def add_batch(self, display_name: str, file: str = "", model: str = "gemini-3.8-flash") -> dict[str, Any]:
        """A batch, as if somebody had submitted it now."""
        name = f"batches/{len(self.batches) + 1:02}fake"
        self.batches[name] = batch = {
            "name": name,
            "metadata": {
                "@type": _BATCH,
                "name": name,
                "model": f"models/{model}",
                "displayName": display_name,
                "inputConfig": {"fileName": file},
                "createTime": _moment(),
                "updateTime": _moment(),
                "state": _OPEN[0],
            },
        }
        batch["metadata"]["batchStats"] = {"requestCount": str(len(self._lines_of(batch)))}
        return batch

    def _lines_of(self, batch: dict[str, Any]) -> list[bytes]:
        return self.files.get(batch["metadata"]["inputConfig"]["fileName"], b"").splitlines()

    def _line(self, key: str, question: dict[str, Any]) -> bytes:
        status, answer = self.content(question)
        result = {"response": answer} if status == 200 else {"error": answer["error"]}
        return json.dumps({"key": key} | result).encode()

    async def _submit(self, request: web.Request) -> web.Response:
        if refusal := self.refused_key(request) or self.unknown_model(request):
            return refusal
        batch: dict[str, Any] = (await request.json()).get("batch") or {}
        source = batch.get("inputConfig") or {}
        if not batch.get("displayName") or set(batch) - {"displayName", "inputConfig", "priority"}:
            return refuse(
                400, "* BatchGenerateContentRequest.batch: a display name and an input are expected"
            )
        if set(source) != {"fileName"}:
            return refuse(400, "* input_config: this fake takes the name of a file")
        if source["fileName"] not in self.files:
            return refuse(403, f"You do not have permission to access the File {source['fileName']}.")
        model = request.match_info["model"]
        return web.json_response(self.add_batch(batch["displayName"], source["fileName"], model))

    async def _list(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.batches.values()))
        start, size = int(request.query.get("pageToken", 0)), int(request.query.get("pageSize", 50))
        page: dict[str, Any] = {"operations": newest[start : start + size]} if newest[start:] else {}
        if newest[start + size :]:
            page["nextPageToken"] = str(start + size)
        return self.refused_key(request) or web.json_response(page)

    async def _poll(self, request: web.Request) -> web.Response:
        batch = self.batches.get(f"batches/{request.match_info['id']}")
        return (
            self.refused_key(request)
            or (refuse(404, "Requested entity was not found.") if batch is None else None)
            or web.json_response(batch)
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        if refusal := self.refused_key(request):
            return refusal
        batch = self.batches.get(f"batches/{request.match_info['id']}")
        if batch is None:
            return refuse(404, "Requested entity was not found.")
        if batch["metadata"]["state"] not in _OPEN:
            return refuse(400, "The batch has ended.")
        self._cancelling.add(batch["name"])
        return web.json_response({})


def _moment() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
