"""Fine-tuning at OpenAI, and at every service with OpenAI's fine-tuning API by its address.

A run is known by its metadata (`fineflow_job`), its training file by its name (job id and sha256), so
whoever starts a job again finds what an earlier start has left. OpenAI closes fine-tuning to everybody
on 2027-01-06 (its deprecations page, read 2026-11-20); other services go on.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared.errors import (
    ProviderBusy,
    ProviderNotEligible,
    ProviderRejected,
    ProviderRunNotFound,
    ProviderUnavailable,
)
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers.base import ENDED_STATUSES, KeyFacts, ProviderReport
from shared.providers.openai_client import OpenAIClient
from shared.providers.openai_details import Details, read_details
from shared.providers.openai_errors import OUT_OF_MONEY
from shared.providers.openai_files import uploaded
from shared.providers.openai_lenient import read_object
from shared.providers.openai_report import error_of, progress_of, result_of, status_of
from shared.providers.openai_request import JOB_KEY, create_request
from shared.providers.openai_webhooks import ProviderHint, read_webhook
from shared.providers.wire import OneAtATime, before_create
from shared.training import estimate, prices
from shared.training.config import Method
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunError, RunSpec

if TYPE_CHECKING:
    from openai import AsyncOpenAI, Omit
    from openai.pagination import AsyncCursorPage
    from openai.types.fine_tuning import FineTuningJob

__all__ = ["OpenAIProvider", "ProviderHint", "read_webhook"]

_PAGE = 100
_MOST_RUNS = 5000  # of an account whose service does not search by metadata
_CREATE_WITHIN_SECONDS = 40  # of a start: with the create itself it must stay within the caller's lease
_MODEL_MISSING = RunError(
    code="model_missing",
    message="The provider says that the run has succeeded, and names no model. Ask the provider for it.",
)


class OpenAIProvider:
    """Keeps connections between calls, and nothing else. `close` ends those of this event loop.

    A 403, whatever was asked, is ProviderNotEligible.
    """

    name = "openai"
    key: KeyProvider = "openai"
    methods: frozenset[Method] = frozenset({"full", "dpo"})
    runs_our_trainer = False
    keeps_disk = True

    def __init__(
        self,
        *,
        allow_private_addresses: bool = False,
        timeout_seconds: float = 30,
        late_seconds: float = 180,
    ) -> None:
        self.late_seconds = late_seconds
        self._client = OpenAIClient(
            allow_private_addresses=allow_private_addresses, timeout_seconds=timeout_seconds
        )
        self._starting = OneAtATime()

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None,
    ) -> str:
        """As in the protocol. Settings that OpenAI does not know, like learning_rate, are not sent."""
        async with self._starting(idempotency_key):
            began = time.monotonic()
            with before_create():
                runs = await self.find(idempotency_key, key=key)
                if runs:
                    return runs[0]
                file_id = await uploaded(self._client, key, dataset, idempotency_key)
            if time.monotonic() - began > _CREATE_WITHIN_SECONDS:
                raise ProviderBusy(
                    "The training file is uploaded; the run is created next.",
                    code="upload_took_long",
                    retry_after_seconds=1,
                )
            asked = create_request(spec, file_id, idempotency_key)

            async def create(sdk: AsyncOpenAI) -> FineTuningJob:
                return await sdk.fine_tuning.jobs.create(**asked)

            try:
                job = await self._client.ask(key, create, attempts=1, otherwise=_job_with_id)
            except ProviderNotEligible as error:
                raise _not_eligible(error) from None
            except ProviderBusy as error:
                if error.code == OUT_OF_MONEY:
                    raise ProviderRejected(error.message, code=error.code, details=error.details) from None
                raise
            return job.id

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        from openai.types.fine_tuning import FineTuningJob

        async def fetch(sdk: AsyncOpenAI, after: str | Omit) -> AsyncCursorPage[FineTuningJob]:
            wanted = {JOB_KEY: idempotency_key}
            return await sdk.fine_tuning.jobs.list(metadata=wanted, limit=_PAGE, after=after)

        jobs = await self._client.collect(key, fetch, FineTuningJob, most=_MOST_RUNS, all_of_them=True)
        ours = [job for job in jobs if (job.metadata or {}).get(JOB_KEY) == idempotency_key]
        # The newest come first; the sort keeps that order, turned round, within one second.
        return [job.id for job in sorted(reversed(ours), key=lambda job: job.created_at or 0)]

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        """One request for a run that waits; a second for the events of one that trains.

        When those cannot be read, a run that trains is reported without: they come with the next poll.
        One that has ended is not polled again, so ProviderUnavailable asks for another try, for ten
        minutes after its end; then it is reported with what there is, lest a broken list of events keep
        a finished model from its owner.
        """
        job = await self._retrieve(provider_job_id, key)
        status = status_of(job)
        if status in ("validating", "queued"):
            return ProviderReport(status, _WAITING[status])
        assert key  # or retrieving had raised
        details = await read_details(self._client, key, job, cursor, has_ended=status in ENDED_STATUSES)
        try:
            return _report(job, details, key)
        except ValidationError:  # a field of the right type with a value that makes no sense
            raise ProviderUnavailable(
                "The provider says something of this run that cannot be.", code="provider_answer_unreadable"
            ) from None

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        async def stop(sdk: AsyncOpenAI) -> FineTuningJob:
            return await sdk.fine_tuning.jobs.cancel(provider_job_id)

        try:
            await self._client.ask(key, stop, missing=ProviderRunNotFound, otherwise=_job_with_id)
        except ProviderRejected:  # also what a run answers that has ended
            job = await self._retrieve(provider_job_id, key)
            if status_of(job) not in ENDED_STATUSES:
                raise

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None:
        async def delete(sdk: AsyncOpenAI) -> object:
            return await sdk.models.delete(provider_model_id)

        try:
            await self._client.ask(key, delete, missing=ProviderRunNotFound)
        except ProviderRunNotFound:
            return

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        async def account(sdk: AsyncOpenAI) -> str | None:
            answer = await sdk.models.with_raw_response.list()
            if "data" not in answer.http_response.json():
                raise ValueError("no list of models")
            return answer.headers.get("openai-organization")

        return KeyFacts(account=await self._client.ask(key, account))

    def estimate(
        self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE
    ) -> estimate.Estimate:
        return estimate.at_vendor(spec, dataset, vendor=self.name)

    async def close(self) -> None:
        """The connections of this event loop are closed."""
        await self._client.close()

    async def _retrieve(self, provider_job_id: str, key: OpenedKey | None) -> FineTuningJob:
        async def retrieve(sdk: AsyncOpenAI) -> FineTuningJob:
            return await sdk.fine_tuning.jobs.retrieve(provider_job_id)

        return await self._client.ask(key, retrieve, missing=ProviderRunNotFound, otherwise=_job_with_status)


_WAITING = {"validating": "The provider checks the training file", "queued": "Waiting at the provider"}


def _job_with_id(body: object) -> FineTuningJob | None:
    from openai.types.fine_tuning import FineTuningJob

    return read_object(FineTuningJob, body, ("id",))


def _job_with_status(body: object) -> FineTuningJob | None:
    from openai.types.fine_tuning import FineTuningJob

    return read_object(FineTuningJob, body, ("id", "status"))


def _report(job: FineTuningJob, details: Details, key: OpenedKey) -> ProviderReport:
    status = status_of(job)
    result, error = None, None
    if status == "completed" and not job.fine_tuned_model:
        status, error = "failed", _MODEL_MISSING
    elif status == "completed":
        result = result_of(job, details.metrics)
    elif status == "failed":
        error = error_of(job, key.api_key)
    progress = progress_of(job, details.found, details.metrics) if status == "training" else None
    return ProviderReport(
        status,
        progress.current_step if progress else None,
        progress=progress,
        result=result,
        error=error,
        cost_usd=_cost_usd(job, key),
        events=details.events,
        metrics=details.metrics,
        cursor=details.cursor,
    )


def _cost_usd(job: FineTuningJob, key: OpenedKey) -> float | None:
    """What OpenAI bills for the tokens that it says it trained; other services have prices of their own."""
    if job.trained_tokens is None or key.base_url is not None:
        return None
    return prices.training_cost_usd("openai", job.model, job.trained_tokens)


def _not_eligible(error: ProviderNotEligible) -> ProviderNotEligible:
    return ProviderNotEligible(
        f"{error.message} Train an open-weights model with another provider, or ask this one for access.",
        details=error.details,
    )
