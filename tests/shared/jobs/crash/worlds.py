"""The vendors of a lane, which move on when the lane's clock does. They outlive every process that asks."""

from __future__ import annotations

import time

import psycopg
from aiohttp import web

from tests.fakes.http import Handler
from tests.fakes.openai import FakeOpenAI
from tests.fakes.openai_state import ENDED, Vendor
from tests.shared.jobs.crash.trainers import FakeTrainers, Receipt, Trainer


class MovedOpenAI(FakeOpenAI):
    """Its jobs are one state further at each move. One that is seen late, beside another, is queued for
    longer than it takes to find it: what trained to its end cannot be stopped any more.
    """

    def __init__(self) -> None:
        super().__init__(count_tokens=len)
        self.late: set[str] = set()

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [*super().routes(), ("POST", "/_fake/move", "move", self._move)]

    def forget(self) -> None:
        """As on the first day."""
        self.vendor = Vendor(len)
        self.calls.clear()
        self.requests.clear()
        self._faults.clear()
        self.late.clear()

    async def _move(self, request: web.Request) -> web.Response:
        asked = await request.json()
        moving = False
        for ref, job in self.vendor.jobs.items():
            is_hidden = job.visible_at > time.time()
            job.visible_at -= asked["seconds"]
            if is_hidden:
                self.late.add(ref)
            waits = is_hidden or asked["hold"] or (ref in self.late and self._has_rival(ref))
            if not waits and job.body["status"] not in ENDED:
                moving = self.vendor.advance(ref) not in ENDED or moving
        return web.json_response({"moving": moving})

    def _has_rival(self, ref: str) -> bool:
        others = (job for other, job in self.vendor.jobs.items() if other != ref)
        return any(job.body["status"] != "cancelled" for job in others)


class MovedTrainers(FakeTrainers):
    """Trainers that report to the database itself, as report-training does for them."""

    def __init__(self, database_url: str) -> None:
        super().__init__(self._store)
        self._database_url = database_url

    def forget(self) -> None:
        self.trainers.clear()
        self.boot_seconds.clear()
        self.calls.clear()
        self._faults.clear()

    async def _store(self, trainer: Trainer, report: dict[str, object]) -> Receipt:
        async with await psycopg.AsyncConnection.connect(self._database_url, autocommit=True) as database:
            cursor = await database.execute(
                "select public.report_training(%s, %s, %s, jsonb_build_array(%s::jsonb), %s)",
                [
                    trainer.job_id,
                    trainer.attempt,
                    trainer.run_id,
                    psycopg.types.json.Json(report),
                    trainer.ref,
                ],
            )
            row = await cursor.fetchone()
        assert row
        answer = row[0]
        return Receipt(answer["outcome"] == "accepted", answer.get("cancel_requested", False))
