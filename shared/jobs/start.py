"""How a run begins, once: intent, call, answer; and what is done when the answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from shared.errors import (
    CallerError,
    InvalidRequest,
    ProviderBusy,
    ProviderKeyInvalid,
    ProviderNotEligible,
    ProviderRejected,
)
from shared.jobs.end import fail, stop
from shared.jobs.model import Claim, Job, Release
from shared.jobs.parent import parent_of_job
from shared.jobs.spec import run_spec
from shared.jobs.state import JobStatus
from shared.providers.alternatives import alternative, with_alternative
from shared.training.spec import Callback

if TYPE_CHECKING:
    from shared.jobs.advance import JobCore
    from shared.keys.store import OpenedKey
    from shared.providers.base import TrainingProvider

# A day more than the job may take: a trainer that was cut off can still say how it ended.
_TOKEN_EXTRA_SECONDS = 86_400


async def start(
    core: JobCore, claim: Claim, provider: TrainingProvider, key: OpenedKey | None
) -> Job | Release:
    """A run was asked for, and is bound when its id came back."""
    try:
        parent = await parent_of_job(core.store, claim.job, provider, begins=True)
        file = await core.build_training_file(claim.job.dataset_id, claim.job.method)
        if not file.row_count:
            raise InvalidRequest(
                "The dataset has no usable pair to train on any more.", code="dataset_too_small"
            )
    except CallerError as error:
        return await fail(core, claim, error)
    # The intent is committed before the call: whoever finds this row later knows to look for a run.
    job = await core.store.move(
        claim,
        [JobStatus.UPLOADING],
        submit=True,
        documents=file.documents,
        sweep_after_seconds=core.timing.grace(provider.late_seconds),
        current_step=f"Uploading {file.row_count} rows ({len(file.content):,} bytes)",
    )
    run_id = UUID(int=core.random.getrandbits(128), version=4)
    spec = run_spec(job, file, run_id, parent)
    try:
        ref = await provider.start(
            spec, file, idempotency_key=str(job.id), callback=_callback(core, job), key=key
        )
    except ProviderNotEligible as error:
        error.details = with_alternative(error.details, alternative(core.providers, spec, file))
        return await fail(core, claim, error, outcome="refused")
    except ProviderRejected as error:
        return await fail(core, claim, error, outcome="refused")
    except ProviderKeyInvalid as error:
        await core.key_refused(job, provider, key, error)
        return await _not_started(core, claim, error.message, core.timing.without_key)
    except ProviderBusy as error:
        await core.note_failure(claim, error)
        wait = core.timing.until_retry(claim.failures, core.random, error.retry_after_seconds)
        return await _not_started(core, claim, "The provider is busy; trying again", wait)
    return await _bind(core, claim, [ref])


async def recover(
    core: JobCore, claim: Claim, provider: TrainingProvider, key: OpenedKey | None
) -> Job | Release:
    """An attempt was made and its answer was lost: look for the run; start again only after the grace."""
    if claim.trainer_ref is not None:
        return await _bind(core, claim, [claim.trainer_ref])
    refs = await provider.find(str(claim.job.id), key=key)
    if refs:
        return await _bind(core, claim, refs)
    grace = core.timing.grace(provider.late_seconds)
    waited = claim.submitted_seconds_ago or 0
    if waited < grace or claim.is_claimed:
        wait = min(max(waited / 4, 2), 30, max(grace - waited, 1))
        return Release(claim.job.id, claim.lease_token, wait)
    if claim.job.cancel_requested_at or core.timing.overdue(claim):
        return await stop(core, claim, "Stopped before it started", outcome="not_found")
    return await core.store.move(
        claim,
        [JobStatus.PENDING],
        release_seconds=0,
        outcome="not_found",
        current_step="The start did not arrive; trying again",
    )


async def _bind(core: JobCore, claim: Claim, refs: list[str]) -> Job:
    """The job has its run, the oldest; others that were found are left to the sweeper, at once."""
    return await core.store.move(
        claim,
        [JobStatus.VALIDATING, JobStatus.QUEUED],
        release_seconds=1,
        outcome="bound",
        sweep_after_seconds=0 if len(refs) > 1 else None,
        provider_job_id=refs[0],
        current_step="Waiting for the trainer",
    )


async def _not_started(core: JobCore, claim: Claim, step: str, wait: float) -> Job:
    return await core.store.move(
        claim,
        [JobStatus.PENDING],
        release_seconds=wait,
        failures=claim.failures + 1,
        outcome="refused",
        current_step=step[:200],
    )


def _callback(core: JobCore, job: Job) -> Callback:
    valid_seconds = job.timeout_seconds + _TOKEN_EXTRA_SECONDS
    return Callback(
        url=core.report_url, token=core.tokens.issue(job.id, job.attempt, valid_seconds=valid_seconds)
    )
