"""Trains with our own trainer in Hugging Face Jobs: a container that the user rents by the minute.

The container gets the job's ticket and no more; the trainer fetches spec and data with its claim and reports
by itself. A label carries the key. Read from huggingface_hub 2.4.0 and huggingface.co/docs/hub/jobs, 2026-11.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from shared.errors import ProviderRejected, ProviderRunNotFound
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers import huggingface_report as words
from shared.providers.base import ENDED_STATUSES, KeyFacts, ProviderReport
from shared.providers.huggingface_client import HuggingFaceClient, listed_jobs
from shared.providers.wire import OneAtATime, before_create
from shared.training import estimate
from shared.training.config import METHODS
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunSpec

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobInfo

LABEL = "fineflow-job"
# Not run_uv_job: it installs at each start what the operator's image holds already, and is experimental.
COMMAND = ("python", "-m", "modal_app.remote")
_LONGEST_SECONDS = 86_400  # for a run that names no limit: without one Hugging Face stops after minutes
_FLAVOR = "t4-small"  # where no estimate names a better one
_PRICE_SECONDS = 600.0  # how long a price list is good


class HuggingFaceProvider:
    """Jobs of the account that the token belongs to, or of `namespace`."""

    name = "huggingface"
    key: KeyProvider | None = "huggingface"
    methods = METHODS
    runs_our_trainer = True
    keeps_disk = False

    def __init__(
        self,
        *,
        image: str,
        endpoint: str | None = None,
        timeout_seconds: float = 30,
        late_seconds: float = 180,
        namespace: str | None = None,
    ) -> None:
        """`image` holds modal_app."""
        self.late_seconds = late_seconds
        self._image = image
        self._call = HuggingFaceClient(endpoint, timeout_seconds, namespace)
        self._starting = OneAtATime()
        self._prices: dict[str, float] = {}  # USD a minute, by flavor
        self._prices_until = 0.0  # monotonic

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None,
    ) -> str:
        flavor = spec.gpu or self.estimate(spec, dataset).gpu or _FLAVOR

        def run(api: HfApi, namespace: str) -> str:
            job = api.run_job(
                image=self._image,
                command=list(COMMAND),
                env={
                    "FINEFLOW_REPORT_URL": callback.url,
                    "FINEFLOW_JOB_ID": str(spec.job_id),
                    "FINEFLOW_ATTEMPT": str(spec.attempt),
                    "FINEFLOW_RUN_ID": str(spec.run_id),
                },
                secrets={"FINEFLOW_TRAINER_TOKEN": callback.token.get_secret_value()},
                flavor=flavor,
                timeout=spec.timeout_seconds or _LONGEST_SECONDS,
                labels={LABEL: idempotency_key, "name": _name(spec)},
                namespace=namespace,
            )
            return job.id

        async with self._starting(idempotency_key):
            with before_create():
                found = await self.find(idempotency_key, key=key)
            return found[0] if found else await self._call(key, run)

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        return await self._call(key, lambda api, namespace: _find(api, namespace, idempotency_key))

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        def look(api: HfApi, namespace: str) -> ProviderReport:
            job = api.inspect_job(job_id=provider_job_id, namespace=namespace)
            log = words.last_lines(api, namespace, job) if words.has_failed(job) else ""
            return words.report(job, log, cost_usd=self._cost_usd(api, job))

        return await self._call(key, look, not_found=ProviderRunNotFound)

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        def stop(api: HfApi, namespace: str) -> None:
            from huggingface_hub.errors import HfHubHTTPError

            try:
                api.cancel_job(job_id=provider_job_id, namespace=namespace)
            except HfHubHTTPError as error:
                if error.response.status_code not in (400, 409, 422):
                    raise
                # What a job that has ended answers is not documented.
                job = api.inspect_job(job_id=provider_job_id, namespace=namespace)
                if words.STAGES.get(job.status.stage) not in ENDED_STATUSES:
                    raise

        await self._call(key, stop, not_found=ProviderRunNotFound)

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None:
        raise ProviderRejected(
            "Models trained in Hugging Face Jobs are files of yours.", code="model_not_at_provider"
        )

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        return words.facts(await self._call.whoami(key), self._call.namespace)

    def estimate(
        self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE
    ) -> estimate.Estimate:
        return estimate.on_gpu(spec, dataset, provider="huggingface", gpu=spec.gpu, known=known)

    def _cost_usd(self, api: HfApi, job: JobInfo) -> float | None:
        """Until now. Each minute that was begun is billed. None: it never ran, or no price can be had."""
        seconds = job.durations.running_secs if job.durations else None
        if not seconds:
            return None
        if time.monotonic() > self._prices_until:
            self._prices = words.prices(api) or self._prices
            self._prices_until = time.monotonic() + _PRICE_SECONDS
        price = self._prices.get(str(job.flavor))
        return None if price is None else round(-(-seconds // 60) * price, 6)


def _find(api: HfApi, namespace: str, idempotency_key: str) -> list[str]:
    jobs = listed_jobs(api, namespace, {LABEL: idempotency_key})
    ours = [job for job in jobs if (job.labels or {}).get(LABEL) == idempotency_key]
    # Within the same millisecond the ids tell: they count up.
    return [job.id for job in sorted(ours, key=lambda job: (str(job.created_at), job.id))]


def _name(spec: RunSpec) -> str:
    """Shown in the list of jobs. Hugging Face takes letters, digits and three signs."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", spec.model_name).strip("-")[:60]
    return name or f"fineflow-{spec.job_id}"
