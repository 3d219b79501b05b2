"""One tick: every due job a step further, many at a time, and a search for runs that nobody asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from shared.db import Row
from shared.errors import FineFlowError, ProviderError, ProviderRunNotFound
from shared.jobs.advance import JobCore
from shared.jobs.model import Claim, Job, Release, Sweep
from shared.jobs.state import ENDED, JobStatus
from shared.keys.store import OpenedKey
from shared.log import logger
from shared.providers.base import ENDED_STATUSES, TrainingProvider

_RELEASED_TOGETHER = 50
_SWEEP_RETRY_SECONDS = 60.0
_SWEEPS_A_TICK = 50
_log = logger("reconcile")


@dataclass
class Tick:
    """What one tick did."""

    looked_at: int = 0
    moved: list[Job] = field(default_factory=list)


@dataclass(frozen=True)
class Reconciler:
    """Works through what is due with `concurrency` steps under way, for at most about `seconds`.

    Two reconcilers share the work: claims skip what the other holds. A job that cannot be moved
    never stops the others.
    """

    core: JobCore
    concurrency: int = 100
    seconds: float = 25

    async def tick(self) -> Tick:
        """Every job that was due has been looked at, unless the time is up; then the next tick goes on."""
        tick = Tick()
        releases: list[Release] = []
        claims = _Claims(self.core, self.concurrency, self.seconds)

        async def work() -> None:
            while (row := await claims.next()) is not None:
                tick.looked_at += 1
                moved = await self._one(row)
                if isinstance(moved, Release):
                    releases.append(moved)
                    if len(releases) >= _RELEASED_TOGETHER:
                        await self._give_back(releases)
                elif moved is not None:
                    tick.moved.append(moved)

        ended = await asyncio.gather(*(work() for _ in range(self.concurrency)), return_exceptions=True)
        await self._give_back(releases)
        for error in ended:
            if error is not None:
                raise error  # our own database is away: the leases end by themselves
        await self._sweep()
        return tick

    async def _one(self, row: Row) -> Job | Release | None:
        try:
            return await self.core.step(Claim.from_row(row))
        except FineFlowError as error:
            _log.warning("job not moved", job_id=row["id"], code=error.code, error=error.message)
        except Exception:  # a poison row: its lease keeps it away from the next ticks for a while
            _log.exception("job not moved", job_id=row["id"])
        return None

    async def _give_back(self, releases: list[Release]) -> None:
        batch = releases.copy()
        releases.clear()
        try:
            await self.core.store.release(batch)
        except FineFlowError as error:  # the leases end by themselves
            _log.warning("claims not given back", count=len(batch), code=error.code)

    async def _sweep(self) -> None:
        sweeps = await self.core.store.claim_sweeps(_SWEEPS_A_TICK, lease_seconds=self.core.timing.lease)
        await asyncio.gather(*(self._sweep_one(sweep) for sweep in sweeps))

    async def _sweep_one(self, sweep: Sweep) -> None:
        try:
            async with asyncio.timeout(self.core.timing.step):
                extra_runs = await _stop_extra_runs(self.core, sweep)
        except (ProviderError, TimeoutError) as error:
            _log.warning("sweep reached nobody", job_id=str(sweep.job_id), error=str(error))
            wait = _SWEEP_RETRY_SECONDS * self.core.random.uniform(0.5, 1.5)
            await self.core.store.finish_sweep(sweep, retry_seconds=wait)
            return
        except Exception:
            _log.exception("sweep failed", job_id=str(sweep.job_id))
            return
        if extra_runs is None:
            await self.core.store.finish_sweep(sweep, retry_seconds=_SWEEP_RETRY_SECONDS)
        else:
            await self.core.store.finish_sweep(sweep, extra_runs=extra_runs)


class _Claims:
    """What is due, the next batch asked for while the present one is worked on.

    Rows are read one by one as they are worked on: a batch read at once would hold up all that is under way.
    """

    def __init__(self, core: JobCore, batch: int, seconds: float) -> None:
        self._core, self._batch = core, batch
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + seconds
        self._waiting: deque[tuple[float, Row]] = deque()
        self._asking: asyncio.Future[None] | None = None
        self._is_exhausted = False

    async def next(self) -> Row | None:
        """The next claim; None: nothing is due any more, or the time is up."""
        while True:
            if self._asking is None and not self._is_exhausted and len(self._waiting) <= self._batch // 2:
                self._asking = asyncio.ensure_future(self._ask())
            if self._waiting:
                since, row = self._waiting.popleft()
                if self._loop.time() - since < self._core.timing.lease - self._core.timing.step:
                    return row  # enough of its lease is left for a whole step
            elif self._asking is None:
                return None
            else:
                await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        lease = self._core.timing.lease
        rows: list[Row] = []
        if self._loop.time() < self._end:
            rows = await self._core.store.claim_due(self._batch, lease_seconds=lease)
        self._waiting.extend((self._loop.time(), row) for row in rows)
        self._is_exhausted = not rows
        self._asking = None


async def _stop_extra_runs(core: JobCore, sweep: Sweep) -> int | None:
    """How many runs were stopped; None: too early, the job itself still looks for its run."""
    ended = sweep.status is None or sweep.status in ENDED
    if not ended and sweep.provider_job_id is None:
        return None
    provider = core.providers.get(sweep.provider)
    if provider is None:
        return None
    key = await core.keys.open(sweep.user_id, provider.key) if provider.key else None
    if provider.key and key is None:
        return 0  # without a key nobody can look; the user took it away
    refs = set(await provider.find(str(sweep.job_id), key=key))
    if sweep.provider_job_id is not None:
        keep = not ended or sweep.status == JobStatus.COMPLETED
        refs = refs - {sweep.provider_job_id} if keep else refs | {sweep.provider_job_id}
    stopped = 0
    for ref in sorted(refs):
        stopped += await _stop_run(provider, ref, key)
    return stopped


async def _stop_run(provider: TrainingProvider, ref: str, key: OpenedKey | None) -> bool:
    try:
        if (await provider.poll(ref, key=key)).status in ENDED_STATUSES:
            return False
        await provider.cancel(ref, key=key)
    except ProviderRunNotFound:
        return False
    return True
