"""Hugging Face Jobs over HTTP on loopback: tokens, hardware, jobs and their logs.

    with FakeHuggingFace() as fake:
        fake.url, fake.api_key
        fake.advance(ref)   one stage further: SCHEDULING, RUNNING, COMPLETED
        fake.disturb("create", Fault(status=500, executed=True))

After huggingface_hub 2.4.0 and huggingface.co/docs/hub/jobs, read 2026-11. Lists come in pages by the Link
header. What is not documented is chosen to be hard on the caller: cancelling a job that has ended is a 400.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from aiohttp import web

from tests.fakes.http import FAULT, FakeServer, Handler

API_KEY = "hf_TestCanary0123456789abcdef"
STAGES = ("SCHEDULING", "RUNNING", "COMPLETED")
ENDED = frozenset({"COMPLETED", "CANCELED", "ERROR", "DELETED"})
MICRO_USD_A_MINUTE = {"cpu-basic": 167, "t4-small": 6667, "l4x1": 13_333, "a100-large": 41_667}
_REQUIRED = {"command", "arguments", "environment", "flavor"}
_ALLOWED = _REQUIRED | {"secrets", "timeoutSeconds", "attempts", "labels", "dockerImage"}


@dataclass
class Token:
    """What a token may do; `role` is read, write or fineGrained."""

    user: str = "acme"
    role: str = "fineGrained"
    permissions: tuple[str, ...] = ("job.write", "repo.write")


@dataclass
class Job:
    """A job, and what the API does not show of it."""

    body: dict[str, Any]
    secrets: dict[str, str]
    visible_at: float
    log: list[str] = field(default_factory=list)


class FakeHuggingFace(FakeServer):
    """See the head of this file. With `seconds_per_state` jobs move on by themselves."""

    def __init__(
        self,
        *,
        tokens: dict[str, Token] | None = None,
        port: int = 0,
        seconds_per_state: float | None = None,
        page_size: int = 100,
    ) -> None:
        super().__init__(port=port)
        self.tokens = tokens or {API_KEY: Token()}
        self.api_key = next(iter(self.tokens))
        self.jobs: dict[str, Job] = {}
        self.ignores_label_filter = False
        self.page_size = page_size
        self._seconds_per_state = seconds_per_state
        self._count = count(1)

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        jobs = "/api/jobs/{namespace}"
        return [
            ("GET", "/api/whoami-v2", "check", self._answering(self._whoami)),
            ("GET", "/api/jobs/hardware", "hardware", self._answering(self._hardware)),
            ("POST", jobs, "create", self._answering(self._create)),
            ("GET", jobs, "list", self._answering(self._list)),
            ("GET", f"{jobs}/{{id}}", "poll", self._answering(self._inspect)),
            ("POST", f"{jobs}/{{id}}/cancel", "cancel", self._answering(self._cancel)),
            ("GET", f"{jobs}/{{id}}/logs", "logs", self._answering(self._logs)),
        ]

    def error(self, status: int, message: str) -> dict[str, Any]:
        return {"error": message}

    # What a test does to the vendor

    def add(self, asked: dict[str, Any], namespace: str = "acme", *, hide_seconds: float = 0) -> str:
        """A job, as a POST makes it."""
        ref = f"{int(time.time()):08x}{next(self._count):016x}"  # as object ids of MongoDB count up
        now = _now()
        body = {
            "id": ref,
            "createdAt": now,
            "startedAt": None,
            "finishedAt": None,
            "dockerImage": asked.get("dockerImage"),
            "command": asked.get("command"),
            "arguments": [],
            "environment": asked.get("environment", {}),
            "flavor": asked["flavor"],
            "labels": asked.get("labels"),
            "status": {"stage": "SCHEDULING", "message": None},
            "owner": {"id": "user0123", "name": namespace, "type": "user"},
            "durations": {"schedulingSecs": 2, "runningSecs": None, "totalSecs": 2},
        }
        self.jobs[ref] = Job(body, dict(asked.get("secrets", {})), time.time() + hide_seconds)
        return ref

    def set_stage(
        self, ref: str, stage: str, *, message: str | None = None, running_seconds: int = 90
    ) -> None:
        job = self.jobs[ref]
        job.body["status"] = {"stage": stage, "message": message}
        if stage != "SCHEDULING":
            job.body["startedAt"] = _now()
            job.body["durations"] = {"schedulingSecs": 2, "runningSecs": running_seconds}
        if stage in ENDED:
            job.body["finishedAt"] = _now()

    def advance(self, ref: str) -> str:
        """One stage further; the new stage."""
        stage = str(self.jobs[ref].body["status"]["stage"])
        if stage in STAGES[:-1]:
            self.set_stage(ref, STAGES[STAGES.index(stage) + 1])
        return str(self.jobs[ref].body["status"]["stage"])

    # HTTP

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
                return self._no(401, "Invalid username or password.")
            return await handler(request)

        return answer

    def _no(self, status: int, message: str) -> web.Response:
        return web.json_response(
            self.error(status, message), status=status, headers={"x-error-message": message}
        )

    def _token(self, request: web.Request) -> Token:
        return self.tokens[request.headers["authorization"].removeprefix("Bearer ")]

    async def _whoami(self, request: web.Request) -> web.Response:
        token = self._token(request)
        access: dict[str, Any] = {"displayName": "fineflow", "role": token.role}
        if token.role == "fineGrained":
            entity = {"_id": "user0123", "type": "user", "name": token.user}
            scoped = [{"entity": entity, "permissions": list(token.permissions)}]
            access["fineGrained"] = {"canReadGatedRepos": True, "global": [], "scoped": scoped}
        auth = {"type": "access_token", "accessToken": access}
        return web.json_response(
            {"type": "user", "id": "user0123", "name": token.user, "orgs": [], "auth": auth}
        )

    async def _hardware(self, request: web.Request) -> web.Response:
        return web.json_response([_machine(name, price) for name, price in MICRO_USD_A_MINUTE.items()])

    async def _create(self, request: web.Request) -> web.Response:
        asked, namespace = await request.json(), request.match_info["namespace"]
        token = self._token(request)
        scopes = token.permissions if token.role == "fineGrained" else ()
        may_write = token.role == "write" or "job.write" in scopes
        if namespace != token.user or not may_write:
            return self._no(403, f"You may not run jobs in {namespace}: job.write is missing.")
        if unknown := set(asked) - _ALLOWED:
            return self._no(400, f"Unrecognized keys: {', '.join(sorted(unknown))}")
        if missing := _REQUIRED - set(asked):
            return self._no(400, f"Required: {', '.join(sorted(missing))}")
        if asked.get("flavor") not in MICRO_USD_A_MINUTE:
            return self._no(400, f"Invalid flavor {asked.get('flavor')}")
        if not asked.get("dockerImage") or not asked.get("command"):
            return self._no(400, "An image and a command are required.")
        ref = self.add(asked, namespace, hide_seconds=request[FAULT].hide_seconds)
        if self._seconds_per_state is not None:
            self._loop.call_later(self._seconds_per_state, self._tick, ref)
        return web.json_response(self.jobs[ref].body)

    def _tick(self, ref: str) -> None:
        assert self._seconds_per_state is not None
        if self.advance(ref) not in ENDED:
            self._loop.call_later(self._seconds_per_state, self._tick, ref)

    async def _list(self, request: web.Request) -> web.Response:
        asked = [] if self.ignores_label_filter else request.query.getall("label", [])
        namespace, now = request.match_info["namespace"], time.time()
        found = [
            job.body
            for job in reversed(list(self.jobs.values()))
            if job.visible_at <= now
            and job.body["owner"]["name"] == namespace
            and set(asked) <= {f"{name}={value}" for name, value in (job.body["labels"] or {}).items()}
        ]
        begin = int(request.query.get("skip", 0))
        end = begin + self.page_size
        following = request.url.update_query(skip=str(end))
        headers = {"Link": f'<{following}>; rel="next"'} if end < len(found) else {}
        return web.json_response(found[begin:end], headers=headers)

    async def _inspect(self, request: web.Request) -> web.Response:
        job = self._job(request)
        return web.json_response(job.body) if job else self._no(404, "Job not found")

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job is None:
            return self._no(404, "Job not found")
        if job.body["status"]["stage"] in ENDED:
            return self._no(400, "The job has already ended.")
        self.set_stage(job.body["id"], "CANCELED")
        return web.json_response({})

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events, as they are kept open while a job runs and closed when it has ended."""
        job = self._job(request)
        if job is None:
            return self._no(404, "Job not found")
        lines = job.log[-int(request.query.get("tail", len(job.log) or 1)) :]
        events = [{"data": line, "timestamp": job.body["createdAt"]} for line in lines]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return web.Response(text=text, content_type="text/event-stream")

    def _job(self, request: web.Request) -> Job | None:
        job = self.jobs.get(request.match_info["id"])
        owner = job.body["owner"]["name"] if job else None
        return job if owner == request.match_info["namespace"] else None


def _machine(name: str, price: int) -> dict[str, Any]:
    gpu = {"type": "gpu", "model": name, "quantity": "1", "vram": "16 GB", "manufacturer": "Nvidia"}
    return {
        "name": name,
        "prettyName": name,
        "cpu": "4 vCPU",
        "ram": "15 GB",
        "ephemeralStorage": "50 GB",
        "accelerator": None if name.startswith("cpu") else gpu,
        "unitCostMicroUSD": price,
        "unitCostUSD": price / 1e6,
        "unitLabel": "minute",
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
