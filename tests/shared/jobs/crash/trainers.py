"""A place that trains without a search, as Modal: nobody can ask it what a lost start has made.

So the trainer itself claims the attempt before it does anything, and one that comes too late goes home.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from aiohttp import web

from shared.training.spec import RunResult, RunState
from tests.fakes.http import FakeServer, Handler

# Stopped at its end: the result may have been heard or not; the job is completed or cancelled accordingly.
ENDED = frozenset({"completed", "cancelled", "turned_away", "stopped_at_its_end"})
_STEPS = 3


@dataclass
class Trainer:
    """One container. It trains only when its claim was accepted."""

    ref: str
    job_id: str
    attempt: int
    run_id: str
    url: str
    token: str
    boot_seconds: float
    phase: str = "booting"
    seq: int = 0
    has_trained: bool = False

    def next_report(self, *, stop: bool = False) -> dict[str, Any]:
        """What it says next: a claim, then one progress a step, then its result."""
        self.seq += 1
        if self.seq == 1:
            return {"seq": 1, "kind": "claim"}
        if self.seq <= 1 + _STEPS and not stop:
            step = self.seq - 1
            progress = {
                "progress_percent": 30.0 * step,
                "current_step": f"Training... (step {step} of {_STEPS})",
                "step": step,
                "total_steps": _STEPS,
                "training_loss": 1 / step,
            }
            return {"seq": self.seq, "kind": "progress", "progress": progress}
        state = RunState.CANCELLED if stop else RunState.COMPLETED
        path = None if stop else f"/models/{self.ref}"
        result = RunResult(state=state, artifact_path=path, training_loss=None if stop else 0.3)
        return {"seq": self.seq, "kind": "result", "result": result.model_dump(mode="json")}


@dataclass(frozen=True)
class Receipt:
    claimed: bool
    cancel_requested: bool = False


Tell = Callable[[Trainer, dict[str, Any]], Awaitable[Receipt]]


@dataclass
class _Stop:
    asked: bool = False


class FakeTrainers(FakeServer):
    """Containers that start after a while and report one thing at a time.

    With `seconds_per_report` they do so by themselves; otherwise `move` is called by whoever has the clock.
    """

    def __init__(self, tell: Tell, *, port: int = 0, seconds_per_report: float | None = None) -> None:
        super().__init__(port=port)
        self.trainers: dict[str, Trainer] = {}
        self.boot_seconds: list[float] = []  # of the next trainers; afterwards none takes any time
        self._tell = tell
        self._seconds_per_report = seconds_per_report
        self._stops: dict[str, _Stop] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [
            ("POST", "/runs", "create", self._spawn),
            ("GET", "/runs/{ref}", "poll", self._poll),
            ("POST", "/runs/{ref}/cancel", "cancel", self._cancel),
            ("GET", "/_fake/state", "state", self._state),
            ("POST", "/_fake/move", "move", self._move),
        ]

    async def move(self, seconds: float, *, hold: bool) -> bool:
        """Each trainer has done the next thing after so many seconds, unless it only claims on `hold`;
        whether one still has work.
        """
        moving = False
        for trainer in list(self.trainers.values()):
            trainer.boot_seconds -= seconds
            if trainer.phase in ENDED or trainer.boot_seconds > 0 or (hold and trainer.seq):
                continue
            await self._report(trainer)
            moving = moving or trainer.phase not in ENDED
        return moving

    async def _report(self, trainer: Trainer) -> None:
        stop = self._stops.setdefault(trainer.ref, _Stop())
        report = trainer.next_report(stop=stop.asked)
        receipt = await self._tell(trainer, report)
        if trainer.phase in ENDED:  # its container was stopped meanwhile
            if report["kind"] == "result" and not stop.asked:
                trainer.phase = "stopped_at_its_end"
            return
        if report["kind"] == "result":
            trainer.phase = report["result"]["state"]  # also when the job has ended: it was heard before
        elif not receipt.claimed:
            trainer.phase = "turned_away"
        else:
            trainer.phase = "training"
            trainer.has_trained = trainer.has_trained or report["kind"] == "progress"
            stop.asked = receipt.cancel_requested

    async def _by_itself(self, trainer: Trainer, seconds_per_report: float) -> None:
        while trainer.phase not in ENDED:
            await asyncio.sleep(seconds_per_report)
            await self._report(trainer)

    async def _spawn(self, request: web.Request) -> web.Response:
        asked = await request.json()
        boot_seconds = self.boot_seconds.pop(0) if self.boot_seconds else 0.0
        trainer = Trainer(ref=f"run-{uuid4().hex}", boot_seconds=boot_seconds, **asked)
        self.trainers[trainer.ref] = trainer
        if self._seconds_per_report is not None:
            task = asyncio.create_task(self._by_itself(trainer, self._seconds_per_report))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return web.json_response({"ref": trainer.ref})

    async def _poll(self, request: web.Request) -> web.Response:
        return web.json_response({"phase": self._known(request).phase})

    async def _cancel(self, request: web.Request) -> web.Response:
        trainer = self._known(request)
        if trainer.phase not in ENDED:
            trainer.phase = "cancelled"
        return web.json_response({})

    async def _move(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"moving": await self.move(asked["seconds"], hold=asked["hold"])})

    async def _state(self, request: web.Request) -> web.Response:
        runs = [
            {
                "id": trainer.ref,
                "job": trainer.job_id,
                "status": trainer.phase,
                "trained": trainer.has_trained,
            }
            for trainer in self.trainers.values()
        ]
        return web.json_response({"runs": runs, "creates": self.calls["create"]})

    def _known(self, request: web.Request) -> Trainer:
        trainer = self.trainers.get(request.match_info["ref"])
        if trainer is None:
            raise web.HTTPNotFound(text='{"error": "no such run"}', content_type="application/json")
        return trainer
