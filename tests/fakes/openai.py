"""OpenAI's files, fine-tuning and models over HTTP on loopback, with signed webhooks.

    with FakeOpenAI() as fake:
        fake.base_url, fake.api_key
        fake.advance(ref)      one state further: validating_files, queued, running, succeeded
        fake.disturb("create", Fault(status=500, executed=True))

As a process of its own: `python -m tests.fakes.openai --port N [--seconds-per-state S]`; it prints its
base address, and `GET /_fake/state` tells what runs it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import ClientSession, ClientTimeout, web
from standardwebhooks.webhooks import Webhook

from shared.tokens import count_tokens as o200k_tokens
from tests.fakes.http import FAULT, FakeServer, Handler
from tests.fakes.openai_state import ENDED, MODELS, Refused, Vendor

API_KEY = "sk-test-canary-0123456789abcdef"
WEBHOOK_SECRET = "whsec_c2VjcmV0LW9mLXRoZS1mYWtlLXZlbmRvcg=="


class FakeOpenAI(FakeServer):
    """See the head of this file. With `seconds_per_state` jobs move on by themselves."""

    def __init__(
        self,
        *,
        keys: tuple[str, ...] = (API_KEY,),
        port: int = 0,
        seconds_per_state: float | None = None,
        count_tokens: Callable[[str], int] = o200k_tokens,
        webhook_url: str | None = None,
        webhook_secret: str = WEBHOOK_SECRET,
    ) -> None:
        super().__init__(port=port)
        self.api_key = keys[0]
        self.vendor = Vendor(count_tokens, on_end=self._ended)
        self.ignores_metadata_filter = False  # as services do that have only most of this API
        self.webhook_url = webhook_url
        self.webhook_copies = 1  # 0: they are lost
        self.webhook_answers: list[int] = []  # HTTP status of each delivery
        self._keys = set(keys)
        self._seconds_per_state = seconds_per_state
        self._webhook = Webhook(webhook_secret)

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        jobs = "/v1/fine_tuning/jobs"
        table: list[tuple[str, str, str, Handler]] = [
            ("POST", "/v1/files", "upload", self._upload),
            ("GET", "/v1/files", "files", self._files),
            ("GET", "/v1/files/{id}", "file", self._file),
            ("GET", "/v1/files/{id}/content", "result", self._content),
            ("DELETE", "/v1/files/{id}", "delete_file", self._delete_file),
            ("POST", jobs, "create", self._create),
            ("GET", jobs, "list", self._list),
            ("GET", f"{jobs}/{{id}}", "poll", self._retrieve),
            ("POST", f"{jobs}/{{id}}/cancel", "cancel", self._cancel),
            ("GET", f"{jobs}/{{id}}/events", "events", self._events),
            ("GET", f"{jobs}/{{id}}/checkpoints", "checkpoints", self._checkpoints),
            ("GET", "/v1/models", "check", self._models),
            ("GET", "/v1/models/{id}", "model", self._model),
            ("DELETE", "/v1/models/{id}", "delete", self._delete_model),
        ]
        guarded = [(method, path, name, self._answering(handler)) for method, path, name, handler in table]
        return [*guarded, ("GET", "/_fake/state", "state", self._state)]

    def error(
        self, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> dict[str, Any]:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": param, "code": code}}

    # What a test does to the vendor

    def advance(self, ref: str) -> str:
        return self.vendor.advance(ref)

    def set_status(self, ref: str, word: str) -> None:
        self.vendor.set_status(ref, word)

    def signed_webhook(
        self, ref: str, status: str, *, age_seconds: float = 0
    ) -> tuple[bytes, dict[str, str]]:
        """The body and headers of a signed delivery, which nobody sends."""
        now = datetime.now(UTC)
        body = {
            "id": f"evt_{uuid4().hex}",
            "object": "event",
            "created_at": int(now.timestamp()),
            "type": f"fine_tuning.job.{status}",
            "data": {"id": ref},
        }
        raw = json.dumps(body)
        sent_at = datetime.fromtimestamp(int(now.timestamp() - age_seconds), UTC)
        headers = {
            "webhook-id": body["id"],
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": self._webhook.sign(str(body["id"]), sent_at, raw),
            "content-type": "application/json",
        }
        return raw.encode(), headers

    def _ended(self, ref: str, status: str) -> None:
        if self.webhook_url:
            raw, headers = self.signed_webhook(ref, status)
            for _ in range(self.webhook_copies):
                asyncio.run_coroutine_threadsafe(self._deliver(self.webhook_url, raw, headers), self._loop)

    async def _deliver(self, url: str, raw: bytes, headers: dict[str, str]) -> None:
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=10)) as session,
                session.post(url, data=raw, headers=headers) as answer,
            ):
                self.webhook_answers.append(answer.status)
        except OSError:
            self.webhook_answers.append(0)

    def _tick(self, ref: str) -> None:
        assert self._seconds_per_state is not None
        if self.vendor.advance(ref) not in ENDED:
            self._loop.call_later(self._seconds_per_state, self._tick, ref)

    # HTTP

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                if request.headers.get("authorization", "").removeprefix("Bearer ") not in self._keys:
                    raise Refused(401, "Incorrect API key provided.", "invalid_api_key")
                response = await handler(request)
            except Refused as no:
                body = self.error(no.status, no.message, no.code, no.param)
                response = web.json_response(body, status=no.status)
            response.headers["x-request-id"] = f"req_{uuid4().hex}"
            response.headers["openai-organization"] = "fake-org"
            return response

        return answer

    async def _upload(self, request: web.Request) -> web.Response:
        fault = request[FAULT]
        purpose, name, content = "", "", b""
        async for part in await request.multipart():
            if part.name == "file":
                name, content = part.filename or "", bytes(await part.read())
            elif part.name == "purpose":
                purpose = (await part.read()).decode()
        if purpose == "fine-tune" and not name.endswith(".jsonl"):
            raise Refused(400, "Fine-tuning files end in .jsonl.", "invalid_file_format", "file")
        kept = content if fault.keep_bytes is None else content[: fault.keep_bytes]
        file = self.vendor.add_file(name, kept, purpose, hide_seconds=fault.hide_seconds)
        return web.json_response(file)

    async def _files(self, request: web.Request) -> web.Response:
        purpose, now = request.query.get("purpose"), time.time()
        found = [
            file
            for file in reversed(list(self.vendor.files.values()))
            if purpose in (None, file["purpose"]) and self.vendor.hidden_files[file["id"]] <= now
        ]
        return _page(request, found, default_limit=10_000)

    async def _file(self, request: web.Request) -> web.Response:
        return web.json_response(self.vendor.files[self._known_file(request)])

    async def _content(self, request: web.Request) -> web.Response:
        content = self.vendor.contents[self._known_file(request)]
        return web.Response(body=content, content_type="application/octet-stream")

    async def _delete_file(self, request: web.Request) -> web.Response:
        file_id = self._known_file(request)
        del self.vendor.files[file_id]
        return web.json_response({"id": file_id, "object": "file", "deleted": True})

    def _known_file(self, request: web.Request) -> str:
        file_id = request.match_info["id"]
        if file_id not in self.vendor.files:
            raise Refused(404, f"No such File object: {file_id}", None, "id")
        return file_id

    async def _create(self, request: web.Request) -> web.Response:
        try:
            asked = await request.json()
        except ValueError as error:
            raise Refused(400, "The body is no JSON.") from error
        job = self.vendor.create(asked, hide_seconds=request[FAULT].hide_seconds)
        if self._seconds_per_state is not None:
            self._loop.call_later(self._seconds_per_state, self._tick, job.body["id"])
        return web.json_response(job.body)

    async def _list(self, request: web.Request) -> web.Response:
        asked = {
            found[1]: value
            for name, value in request.query.items()
            if (found := re.fullmatch(r"metadata\[(.+)\]", name))
        }
        return _page(request, self.vendor.visible({} if self.ignores_metadata_filter else asked))

    async def _retrieve(self, request: web.Request) -> web.Response:
        return web.json_response(self.vendor.job(request.match_info["id"]).body)

    async def _cancel(self, request: web.Request) -> web.Response:
        return web.json_response(self.vendor.cancel(request.match_info["id"]).body)

    async def _events(self, request: web.Request) -> web.Response:
        return _page(request, self.vendor.job(request.match_info["id"]).events[::-1])

    async def _checkpoints(self, request: web.Request) -> web.Response:
        job = self.vendor.job(request.match_info["id"])
        return _page(request, self.vendor.checkpoints(job), default_limit=10)

    async def _models(self, request: web.Request) -> web.Response:
        names = [*MODELS, *self.vendor.models]
        return web.json_response({"object": "list", "data": [_model(name) for name in names]})

    async def _model(self, request: web.Request) -> web.Response:
        return web.json_response(_model(self._known_model(request)))

    async def _delete_model(self, request: web.Request) -> web.Response:
        name = self._known_model(request)
        if name in MODELS:
            raise Refused(403, "You cannot delete this model.")
        del self.vendor.models[name]
        return web.json_response({"id": name, "object": "model", "deleted": True})

    def _known_model(self, request: web.Request) -> str:
        name = request.match_info["id"]
        if name not in MODELS and name not in self.vendor.models:
            raise Refused(404, f"The model '{name}' does not exist", "model_not_found", "model")
        return name

    async def _state(self, request: web.Request) -> web.Response:
        runs = [
            {"id": ref, "metadata": job.body["metadata"], "status": job.body["status"]}
            for ref, job in self.vendor.jobs.items()
        ]
        return web.json_response({"runs": runs, "creates": self.calls["create"]})


def _model(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "system",
        "shutdown_date": MODELS.get(name),
    }


def _page(request: web.Request, found: list[dict[str, Any]], *, default_limit: int = 20) -> web.Response:
    limit = int(request.query.get("limit", default_limit))
    after = request.query.get("after")
    ids = [item["id"] for item in found]
    begin = ids.index(after) + 1 if after in ids else 0
    data = found[begin : begin + limit]
    page: dict[str, Any] = {"object": "list", "data": data, "has_more": len(found) > begin + limit}
    page |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return web.json_response(page)


def main() -> None:
    parser = argparse.ArgumentParser(description="OpenAI's fine-tuning API on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds-per-state", type=float)
    parser.add_argument("--webhook-url")
    asked = parser.parse_args()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    with FakeOpenAI(
        port=asked.port, seconds_per_state=asked.seconds_per_state, webhook_url=asked.webhook_url
    ) as fake:
        print(fake.base_url, flush=True)  # whoever started it reads the address
        stopped.wait()


if __name__ == "__main__":
    main()
