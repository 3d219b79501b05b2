"""Moves a job one step. Everything that can happen to a job calls this, and nothing else writes its status.

A call is a hint: lost, doubled or out of order it ends in the same place, because each step first
takes a lease, commits what it is about to do, does it, and records what came back under that lease.
What a provider's silence means is never concluded: such a job stays as it is and is asked about again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol
from uuid import UUID

from shared.errors import (
    InvalidRequest,
    ProviderBusy,
    ProviderError,
    ProviderKeyInvalid,
    ProviderRunNotFound,
    ProviderUnavailable,
    ServiceUnavailable,
)
from shared.jobs import start, watch
from shared.jobs.end import fail, refused_by_us, stop
from shared.jobs.model import Claim, Job, Release
from shared.jobs.state import JobStatus
from shared.jobs.store import JobStore, LeaseLost
from shared.jobs.timing import Timing
from shared.jobs.token import TrainerTokens
from shared.keys.crypto import KeyDoesNotOpen
from shared.keys.store import KeyProvider, OpenedKey
from shared.log import logger
from shared.providers.base import TrainingProvider
from shared.providers.registry import Providers, choose
from shared.training.files import TrainingFile

_MOST_CRASHES = 10
_log = logger("jobs")


class Keys(Protocol):
    """What the core needs of the key store."""

    async def open(self, user_id: UUID, provider: KeyProvider) -> OpenedKey | None:
        """The key, None when none is set. Raises ProviderKeyInvalid for one that is known not to work."""
        ...

    async def mark_invalid(
        self, user_id: UUID, provider: KeyProvider, opened: OpenedKey, reason: str
    ) -> bool:
        """The key is not used any more until the user sets another; False: they did so meanwhile."""
        ...


@dataclass(frozen=True)
class JobCore:
    """The job core and what it works with."""

    store: JobStore
    providers: Providers
    keys: Keys
    tokens: TrainerTokens
    report_url: str
    build_training_file: Callable[[UUID, str], Awaitable[TrainingFile]]  # dataset, method
    timing: Timing = field(default_factory=Timing)
    random: Random = field(default_factory=Random)

    async def advance(self, job_id: UUID) -> Job:
        """The job after one step, or as it is when somebody else holds it or it has ended."""
        claim = await self.store.claim(job_id, lease_seconds=self.timing.lease)
        if claim is None:
            return await self.store.get(job_id)
        moved = await self.step(claim)
        if isinstance(moved, Release):
            await self.store.release([moved])
            return claim.job
        return moved

    async def step(self, claim: Claim) -> Job | Release:
        """What the step made of the job; a Release when nothing is new, for the caller to give back.

        Raises ServiceUnavailable when our own database does not answer: the lease ends by itself.
        """
        job = claim.job
        try:
            async with asyncio.timeout(self.timing.step):
                moved = await self._step(claim)
        except LeaseLost:
            _log.info("lease lost", job_id=str(job.id))
            return await self.store.get(job.id)
        except ProviderRunNotFound as error:
            return await self._not_found(claim, error)
        except ProviderKeyInvalid as error:
            return await self._without_key(claim, error.message)
        except (ProviderError, TimeoutError) as error:
            return await self._nobody_knows(claim, error)
        except Exception as error:  # a row that nobody foresaw must not stop the others
            return await self._crashed(claim, error)
        if claim.breaker_failures:
            await self.store.note_success(job)
        return moved

    async def _step(self, claim: Claim) -> Job | Release:
        job = claim.job
        try:
            provider = choose(self.providers, job.provider, job.method)
        except InvalidRequest as error:
            if job.status == JobStatus.PENDING:
                return await fail(self, claim, refused_by_us(error))
            raise ProviderUnavailable(error.message) from error  # a run may go on there: wait for it
        if job.status == JobStatus.PENDING and (job.cancel_requested_at or self.timing.overdue(claim)):
            return await stop(self, claim, "Stopped before it started")
        key = await self._key(job, provider)
        try:
            if job.status == JobStatus.PENDING:
                return await start.start(self, claim, provider, key)
            if job.provider_job_id is None:
                return await start.recover(self, claim, provider, key)
            return await watch.watch(self, claim, provider, key, job.provider_job_id)
        except ProviderKeyInvalid as error:
            await self.key_refused(job, provider, key, error)
            raise

    async def _key(self, job: Job, provider: TrainingProvider) -> OpenedKey | None:
        if provider.key is None:
            return None
        try:
            opened = await self.keys.open(job.user_id, provider.key)
        except KeyDoesNotOpen as error:
            raise ProviderKeyInvalid(error.message) from error
        if opened is None:
            raise ProviderKeyInvalid(f"Waiting for your {provider.key} key: set it with manage-api-keys.")
        return opened

    async def key_refused(
        self, job: Job, provider: TrainingProvider, key: OpenedKey | None, error: ProviderKeyInvalid
    ) -> None:
        """No job uses the key any more until its owner sets another."""
        if provider.key is not None and key is not None:
            await self.keys.mark_invalid(job.user_id, provider.key, key, error.message)

    async def _not_found(self, claim: Claim, error: ProviderRunNotFound) -> Job:
        if not self.timing.is_lost(claim):
            wait = self.timing.until_retry(claim.not_found + 3, self.random)
            return await self.store.move(claim, [], release_seconds=wait, not_found=True)
        if claim.job.cancel_requested_at:
            return await stop(self, claim, "Stopped; the provider knows the run no more")
        lost = ProviderRunNotFound(
            f"{claim.job.provider} has not known the run for {claim.not_found_seconds / 60:.0f} minutes: "
            f"{error.message} Start the job again.",
            code="provider_lost_run",
        )
        return await fail(self, claim, lost)

    async def _without_key(self, claim: Claim, reason: str) -> Job | Release:
        """The jobs of this key wait, whatever their state: the provider goes on with what it has."""
        wait = self.timing.without_key * self.random.uniform(0.9, 1.1)
        step = claim.job.changes({"current_step": reason[:200]})
        if not step:
            return Release(claim.job.id, claim.lease_token, wait)
        return await self.store.move(claim, [], release_seconds=wait, **step)

    async def _nobody_knows(self, claim: Claim, error: ProviderError | TimeoutError) -> Job:
        job = claim.job
        retry_after = error.retry_after_seconds if isinstance(error, ProviderUnavailable) else None
        wait = self.timing.until_retry(claim.failures, self.random, retry_after)
        _log.warning("provider not reached", job_id=str(job.id), provider=job.provider, error=repr(error))
        # The limit of the whole step says nothing of the provider: our own database may have been slow.
        if not isinstance(error, TimeoutError):
            await self.note_failure(claim, error)
        return await self.store.move(claim, [], release_seconds=wait, failures=claim.failures + 1)

    async def note_failure(self, claim: Claim, error: Exception) -> None:
        """The account's other jobs there are left alone too, as the provider asked or as failures pile up."""
        retry_after = error.retry_after_seconds if isinstance(error, ProviderUnavailable) else None
        asked_to_wait = isinstance(error, ProviderBusy) and retry_after is not None
        await self.store.note_failure(claim.job, seconds=retry_after or 0, counts=not asked_to_wait)

    async def _crashed(self, claim: Claim, error: Exception) -> Job:
        if isinstance(error, ServiceUnavailable):
            raise error
        _log.error("step failed", job_id=str(claim.job.id), exc_info=error)
        if claim.job.status == JobStatus.PENDING and claim.crashes + 1 >= _MOST_CRASHES:
            return await fail(self, claim, refused_by_us(error))
        wait = self.timing.until_retry(claim.crashes + 3, self.random)
        return await self.store.move(claim, [], release_seconds=wait, crashes=claim.crashes + 1)
