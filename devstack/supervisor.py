"""Keeps the children of a stack alive: a death is noticed, named and made good, or it ends the stack."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import httpx

from devstack.processes import POLL_SECONDS, Child, Command, describe_exit, last_lines
from devstack.stack_files import ChildRecord, keep_one_old

READY_SECONDS = 120.0
MOST_DEATHS = 5
DEATHS_WITHIN_SECONDS = 60.0
FIRST_BACKOFF_SECONDS = 0.2
Say = Callable[[str], object]


class StackFailed(Exception):
    """The stack cannot go on; the message names what failed and holds the end of its log."""


@dataclass(frozen=True)
class Service:
    """A child that is kept alive. `health_url` answers 200 while it works; None: nothing to ask."""

    command: Command
    health_url: str | None
    can_restart: bool = True
    is_awaited: bool = True  # the stack is not ready before it is

    @property
    def name(self) -> str:
        return self.command.name


class Supervisor:
    """Starts services and watches them until `release`."""

    def __init__(self, record: ChildRecord, say: Say) -> None:
        self._record = record
        self._say = say
        self._children: dict[str, Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready: set[str] = set()
        self._failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def start(self, service: Service) -> Child:
        """The service has been started and is watched from now on."""
        keep_one_old(service.command.log)
        child = self._spawn(service)
        self.run(self._keep(service, child))
        return child

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a task of the stack's own for as long as the stack; an exception in it ends the stack."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    async def wait_ready(self, services: list[Service]) -> None:
        """All of them answer. Raises StackFailed when one ends or does not answer in time."""
        await asyncio.gather(*(self._wait_healthy(service) for service in services))

    async def wait_failed(self) -> str:
        """Waits until the stack cannot go on; why."""
        return await asyncio.shield(self._failure)

    async def release(self) -> None:
        """Nothing is watched or restarted any more, and the stack's own tasks have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def end(self, *names: str) -> None:
        """These children have ended; all that still run when no name is given. `release` comes first."""
        chosen = [child for child in self._children.values() if not names or child.name in names]
        await asyncio.gather(*(child.stop() for child in chosen))

    def _spawn(self, service: Service) -> Child:
        child = Child(service.command)
        self._children[service.name] = child
        self._record.add(child)
        return child

    async def _keep(self, service: Service, child: Child) -> None:
        deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        while True:
            code = await child.exited()
            what = f"{service.name} ended with {describe_exit(code)}"
            lines = "".join(f"\n  {line}" for line in last_lines(service.command.log))
            deaths.append(time.monotonic())
            often = len(deaths) == MOST_DEATHS and deaths[-1] - deaths[0] < DEATHS_WITHIN_SECONDS
            starting = service.is_awaited and service.name not in self._ready
            if starting or often or not service.can_restart:
                self._fail(
                    f"{what}{', too often' if often else ''}. The end of {service.command.log}:{lines}"
                )
                return
            self._say(f"{what}; restarting it. The end of {service.command.log}:{lines}")
            await asyncio.sleep(FIRST_BACKOFF_SECONDS * 2 ** (len(deaths) - 1))
            child = self._spawn(service)
            self.run(self._tell_when_back(service, child))

    async def _tell_when_back(self, service: Service, child: Child) -> None:
        began = time.monotonic()
        while not await is_healthy(service):
            if child.returncode is not None:
                return  # `_keep` starts the next one
            await asyncio.sleep(POLL_SECONDS)
        self._say(f"{service.name} is back after {time.monotonic() - began:.1f} s")

    async def _wait_healthy(self, service: Service) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not await is_healthy(service):
            if self._failure.done():
                raise StackFailed(self._failure.result())
            if time.monotonic() > deadline:
                lines = "\n  ".join(last_lines(service.command.log))
                raise StackFailed(
                    f"{service.name} did not answer within {READY_SECONDS:.0f} s. "
                    f"The end of {service.command.log}:\n  {lines}"
                )
            await asyncio.sleep(POLL_SECONDS)
        self._ready.add(service.name)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(f"the supervisor itself failed: {error!r}")

    def _fail(self, reason: str) -> None:
        if not self._failure.done():
            self._failure.set_result(reason)


async def is_healthy(service: Service) -> bool:
    """Whether it answers its health check with 200 now; True where there is nothing to ask."""
    if service.health_url is None:
        return True
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
            return (await http.get(service.health_url)).status_code == 200
    except httpx.HTTPError:
        return False
