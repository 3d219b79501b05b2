"""What goes wrong, and how often. One seed decides all of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from shared.db import Database, Row
from shared.errors import ServiceUnavailable
from tests.shared.jobs.simulation.database import MemoryDatabase


class Killed(BaseException):
    """The process is gone in the middle of what it did. No handler of ours catches it."""


@dataclass(frozen=True)
class Rates:
    """Chances, each of one call."""

    kill: float = 0.01  # before or after the effect
    pause: float = 0.005  # frozen for longer than a lease, then going on
    database_lost: float = 0.01  # our own database does not answer, half of these times after the effect
    busy: float = 0.05
    server_error: float = 0.04
    server_error_executed: float = 0.03
    timeout: float = 0.02
    timeout_executed: float = 0.04  # and half of these times executed only later
    read_error: float = 0.06
    read_missing: float = 0.01  # 404 of a run that is there
    refused: float = 0.01
    revoked: float = 0.02  # a user's key, for a while

    def times(self, factor: float) -> Rates:
        """Everything this much more often, each chance at most one in four."""
        return Rates(**{name: min(value * factor, 0.25) for name, value in vars(self).items()})


@dataclass
class Faults:
    """Throws the dice and keeps count."""

    random: Random
    rates: Rates
    until: float  # no fault after this moment
    now: Any  # () -> float
    counts: Counter[str] = field(default_factory=Counter)
    last_at: dict[str, float] = field(default_factory=dict)  # by job id; "" for those of everybody

    def strikes(self, name: str, job_id: str = "", *, chance: float | None = None) -> bool:
        """Whether this fault happens now."""
        rate = getattr(self.rates, name) if chance is None else chance
        if self.now() >= self.until or self.random.random() >= rate:
            return False
        self.counts[name] += 1
        self.last_at[job_id] = self.now()
        return True


@dataclass
class Process:
    """One function that runs: once killed, nothing of it has any effect any more."""

    faults: Faults
    is_dead: bool = False

    def check(self) -> None:
        if self.is_dead:
            raise Killed

    def may_die(self, job_id: str) -> None:
        """Raises Killed when the dice say so. Before and after an effect, so half the chance each."""
        self.check()
        if self.faults.strikes("kill", job_id, chance=self.faults.rates.kill / 2):
            self.is_dead = True
            raise Killed

    async def may_freeze(self, job_id: str) -> None:
        if self.faults.strikes("pause", job_id):
            await asyncio.sleep(self.faults.random.uniform(50, 500))
        self.check()


class FaultyDatabase(Database):
    """The database as one process reaches it."""

    def __init__(self, memory: MemoryDatabase, process: Process) -> None:
        self._memory, self._process = memory, process

    async def find(self, table: str, columns: str = "*", **equals: Any) -> Row | None:
        self._process.check()
        return await self._memory.find(table, columns, **equals)

    async def call(self, function: str, **parameters: Any) -> Any:
        process, faults = self._process, self._process.faults
        job_id = str(parameters.get("job_id") or "")
        process.may_die(job_id)
        await asyncio.sleep(faults.random.uniform(0.002, 0.05))
        process.check()
        lost = faults.strikes("database_lost", job_id)
        if lost and faults.random.random() < 0.5:
            raise ServiceUnavailable("lost before")
        result = await self._memory.call(function, **parameters)
        process.may_die(job_id)
        await process.may_freeze(job_id)
        if lost:
            raise ServiceUnavailable("lost after")
        return result
