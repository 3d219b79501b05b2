"""Together's files, fine-tuning jobs and models over HTTP on loopback.

    with FakeTogether() as fake:
        fake.url, fake.api_key
        fake.vendor.advance(ref)   one state further: pending, queued, running, ..., completed
        fake.disturb("create", Fault(status=500, executed=True))

An upload is three calls: `upload` names the file and is sent on to the storage, `store` is the storage, and
`preprocess` ends it. `keep_bytes` of a fault counts at `store`.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from tests.fakes.http import FAULT, FakeServer, Handler
from tests.fakes.together_state import ENDED, PROJECT, Job, Refused, Vendor, limits

API_KEY = "tgp_v1_test-canary-0123456789abcdef"


class FakeTogether(FakeServer):
    """See the head of this file. With `seconds_per_state` jobs move on by themselves."""

    def __init__(
        self, *, keys: tuple[str, ...] = (API_KEY,), port: int = 0, seconds_per_state: float | None = None
    ) -> None:
        super().__init__(port=port)
        self.api_key = keys[0]
        self.vendor = Vendor()
        self._keys = set(keys)
        self._seconds_per_state = seconds_per_state

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        jobs = "/v1/fine-tunes"
        table: list[tuple[str, str, str, Handler]] = [
            ("POST", "/v1/files", "upload", self._reserve),
            ("POST", "/v1/files/{id}/preprocess", "preprocess", self._preprocess),
            ("GET", "/v1/files", "files", self._files),
            ("GET", "/v1/files/{id}", "file", self._file),
            ("DELETE", "/v1/files/{id}", "delete_file", self._delete_file),
            ("GET", f"{jobs}/models/limits", "limits", self._limits),
            ("POST", f"{jobs}/estimate-price", "price", self._price),
            ("POST", jobs, "create", self._create),
            ("GET", jobs, "list", self._list),
            ("GET", f"{jobs}/{{id}}", "poll", self._retrieve),
            ("DELETE", f"{jobs}/{{id}}", "delete_job", self._delete_job),
            ("POST", f"{jobs}/{{id}}/cancel", "cancel", self._cancel),
            ("GET", f"{jobs}/{{id}}/events", "events", self._events),
            ("GET", f"{jobs}/{{id}}/metrics", "metrics", self._metrics),
            ("GET", "/v3/whoami", "check", self._whoami),
            ("DELETE", "/v2/projects/{project}/models/{id}", "delete", self._delete_model),
        ]
        guarded = [(method, path, name, self._answering(handler)) for method, path, name, handler in table]
        return [*guarded, ("PUT", "/storage/{id}", "store", self._store)]

    def error(self, status: int, message: str, code: str | None = None) -> dict[str, Any]:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                if request.headers.get("authorization", "").removeprefix("Bearer ") not in self._keys:
                    raise Refused(401, "Invalid API key provided.", "invalid_api_key")
                return await handler(request)
            except Refused as no:
                return web.json_response(self.error(no.status, no.message, no.code), status=no.status)

        return answer

    async def _reserve(self, request: web.Request) -> web.Response:
        asked = await request.post()
        name, file_type = str(asked.get("file_name")), str(asked.get("file_type"))
        if asked.get("purpose") != "fine-tune" or not name.endswith(f".{file_type}"):
            raise Refused(400, "purpose, file_name and file_type do not go together", "invalid_file")
        hide_seconds = request[FAULT].hide_seconds
        try:
            file_id = self.vendor.reserve_file(
                name, str(asked.get("checksum")), file_type, hide_seconds=hide_seconds
            )
        except KeyError as equal:
            return web.json_response({"file_id": equal.args[0]}, status=409)
        location = {"Location": f"{self.url}/storage/{file_id}", "X-Together-File-Id": file_id}
        return web.Response(status=302, headers=location)

    async def _store(self, request: web.Request) -> web.Response:
        content, keep = await request.read(), request[FAULT].keep_bytes
        self.vendor.fill_file(request.match_info["id"], content if keep is None else content[:keep])
        return web.Response()

    async def _preprocess(self, request: web.Request) -> web.Response:
        return web.json_response(self.vendor.preprocess(request.match_info["id"]))

    async def _files(self, request: web.Request) -> web.Response:
        now, hidden = time.time(), self.vendor.hidden_files
        found = [file for file_id, file in self.vendor.files.items() if hidden[file_id] <= now]
        return web.json_response({"data": found})

    async def _file(self, request: web.Request) -> web.Response:
        return web.json_response(self.vendor.file(request.match_info["id"]))

    async def _delete_file(self, request: web.Request) -> web.Response:
        self.vendor.delete_file(request.match_info["id"])
        return web.json_response({"id": request.match_info["id"], "deleted": True})

    async def _limits(self, request: web.Request) -> web.Response:
        return web.json_response(limits(request.query.get("model_name", "")))

    async def _price(self, request: web.Request) -> web.Response:
        reason = "train_file_not_validated"
        return web.json_response({"estimation_available": False, "unavailable_reason": reason})

    async def _create(self, request: web.Request) -> web.Response:
        job = self.vendor.create(await request.json(), hide_seconds=request[FAULT].hide_seconds)
        if self._seconds_per_state is not None:
            self._loop.call_later(self._seconds_per_state, self._tick, job.body["id"])
        return web.json_response(job.body)

    def _tick(self, ref: str) -> None:
        assert self._seconds_per_state is not None
        if self.vendor.advance(ref) not in ENDED:
            self._loop.call_later(self._seconds_per_state, self._tick, ref)

    async def _list(self, request: web.Request) -> web.Response:
        now = time.time()
        found = [job.body for job in reversed(list(self.vendor.jobs.values())) if job.visible_at <= now]
        return web.json_response({"data": found})

    async def _retrieve(self, request: web.Request) -> web.Response:
        body = self.vendor.look(request.match_info["id"])
        del body["suffix"]  # the list has it, this answer has not: FinetuneResponse of the SDK
        return web.json_response(body)

    async def _delete_job(self, request: web.Request) -> web.Response:
        del self.vendor.jobs[self._job(request).body["id"]]
        return web.json_response({"message": "deleted"})

    async def _cancel(self, request: web.Request) -> web.Response:
        return web.json_response(self.vendor.cancel(request.match_info["id"]).body)

    async def _events(self, request: web.Request) -> web.Response:
        return web.json_response({"data": self._job(request).events[::-1]})

    async def _metrics(self, request: web.Request) -> web.Response:
        first = int(request.query.get("global_step_from", 0))
        rows = self.vendor.metrics(self._job(request))
        return web.json_response({"metrics": [row for row in rows if row["train/global_step"] >= first]})

    async def _whoami(self, request: web.Request) -> web.Response:
        organization = {"id": "org_0123", "name": "Acme"}
        key = {"id": "key_0123"}
        kind = "project_api_key"
        return web.json_response(
            {"type": kind, "api_key": key, "organization": organization, "project": PROJECT}
        )

    async def _delete_model(self, request: web.Request) -> web.Response:
        model_id = request.match_info["id"]
        if request.match_info["project"] != PROJECT["id"] or model_id not in self.vendor.models:
            raise Refused(404, f"Model {model_id} not found", "not_found")
        del self.vendor.models[model_id]
        return web.json_response({})

    def _job(self, request: web.Request) -> Job:
        return self.vendor.job(request.match_info["id"])
