"""One tick: every due job a step further, many at a time, and a search for runs that nobody asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

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
        waiting: deque[tuple[float, Claim]] = deque()
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        asking = asyncio.Lock()
        exhausted = False

        async def next_claim() -> Claim | None:
            nonlocal exhausted
            async with asking:
                while not waiting and not exhausted and loop.time() < end:
                    timing = self.core.timing
                    claims = await self.core.store.claim_due(self.concurrency, lease_seconds=timing.lease)
                    waiting.extend((loop.time(), claim) for claim in claims)
                    exhausted = not claims
                while waiting:
                    since, claim = waiting.popleft()
                    if loop.time() - since < self.core.timing.lease - self.core.timing.step:
                        return claim  # enough of its lease is left for a whole step
                return None

        async def work() -> None:
            while (claim := await next_claim()) is not None:
                tick.looked_at += 1
                moved = await self._one(claim)
                if isinstance(moved, Release):
                    releases.append(moved)
                    if len(releases) >= _RELEASED_TOGETHER:
                        await self._give_back(releases)
                elif moved is not None:
                    tick.moved.append(moved)

        await asyncio.gather(*(work() for _ in range(self.concurrency)))
        await self._give_back(releases)
        await self._sweep()
        return tick

    async def _one(self, claim: Claim) -> Job | Release | None:
        try:
            return await self.core.step(claim)
        except FineFlowError as error:
            _log.warning("job not moved", job_id=str(claim.job.id), code=error.code, error=error.message)
        except Exception:  # a poison row: its lease keeps it away from the next ticks for a while
            _log.exception("job not moved", job_id=str(claim.job.id))
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
