"""Trains with Together: the training file is uploaded, and Together trains in its own way.

Its jobs carry no metadata, so the suffix of the tuned model's name, which the list of jobs shows, says
which job of ours one belongs to. Not its training file: Together stores equal files once, so jobs share them.
Read from the together SDK 3.1.1 and docs.together.ai, 2026-11.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import ProviderRejected, ProviderRunNotFound, ProviderUnavailable
from shared.keys.store import KeyProvider, OpenedKey
from shared.providers import together_report
from shared.providers.base import ENDED_STATUSES, KeyFacts, ProviderReport
from shared.providers.together_client import TogetherClient
from shared.providers.wire import OneAtATime, before_create
from shared.training import estimate
from shared.training.config import Method
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunSpec

if TYPE_CHECKING:
    from together import AsyncTogether

_LEARNING_RATE = 1e-5  # the SDK's default
_BROKEN_FILES = frozenset({"FAILED", "INVALID_FORMAT"})


class TogetherProvider:
    """Full, LoRA and DPO fine-tuning of Together's open-weights models. DPO trains an adapter."""

    name = "together"
    key: KeyProvider | None = "together"
    methods: frozenset[Method] = frozenset({"full", "lora", "dpo"})
    runs_our_trainer = False
    keeps_disk = True

    def __init__(
        self,
        *,
        base_url: str | None = None,
        timeout_seconds: float = 30,
        late_seconds: float = 180,
        allow_private_addresses: bool = False,
    ) -> None:
        """`base_url` is the operator's and is trusted, other than that of a key, which is a user's."""
        self.late_seconds = late_seconds
        self._connected = TogetherClient(base_url, timeout_seconds, allow_private_addresses)
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
        suffix, parameters = _suffix(idempotency_key), _parameters(spec)
        name = f"{idempotency_key}-{dataset.sha256}.jsonl"
        async with self._starting(idempotency_key):
            with before_create():
                async with self._connected(key) as client:
                    found = await _find(client, suffix)
                    if found:
                        return found[0]
                    file_id = await _file(client, dataset, name)
            async with self._connected(key) as client:
                try:
                    job = await client.fine_tuning.create(training_file=file_id, suffix=suffix, **parameters)
                except ValueError as error:  # the SDK compares with the model's limits before it sends
                    raise ProviderRejected(f"Together said no: {error}") from None
                return _known(job.id)

    async def find(self, idempotency_key: str, *, key: OpenedKey | None) -> list[str]:
        suffix = _suffix(idempotency_key)
        async with self._connected(key) as client:
            return await _find(client, suffix)

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None, cursor: str | None = None
    ) -> ProviderReport:
        async with self._connected(key, not_found=ProviderRunNotFound) as client:
            job = await client.fine_tuning.retrieve(provider_job_id)
            _known(job.status)
            history = await together_report.history(client, job, cursor)
        return together_report.report(job, history)

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None) -> None:
        import together

        async with self._connected(key, not_found=ProviderRunNotFound) as client:
            try:
                await client.fine_tuning.cancel(provider_job_id)
            # What a job that has ended answers is not documented.
            except (together.BadRequestError, together.ConflictError, together.UnprocessableEntityError):
                job = await client.fine_tuning.retrieve(provider_job_id)
                has_ended = together_report.STATUSES.get(job.status) in ENDED_STATUSES
                if not has_ended and job.status != "cancel_requested":
                    raise

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None) -> None:
        import together

        async with self._connected(key) as client:
            for job in (await client.fine_tuning.list()).data:
                if job.x_model_output_name == provider_model_id:
                    with suppress(together.NotFoundError):
                        await _delete_objects(client, job.id)

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        async with self._connected(key) as client:
            owner = await client.whoami()
        named = (getattr(owner, "organization", None), getattr(owner, "project", None))
        return KeyFacts(account=" / ".join(one.name for one in named if one is not None) or None)

    def estimate(
        self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE
    ) -> estimate.Estimate:
        return estimate.at_vendor(spec, dataset, vendor="together")


def _suffix(idempotency_key: str) -> str:
    return UUID(idempotency_key).hex  # 32 of the 40 characters that Together takes


def _known(value: str | None) -> str:
    """The SDK makes None of what an answer lacks. Then it was not an answer."""
    if not value:
        raise ProviderUnavailable("Together's answer lacks what it must have.")
    return value


async def _find(client: AsyncTogether, suffix: str) -> list[str]:
    jobs = (await client.fine_tuning.list()).data  # all there are: Together's list has no pages
    # The name that Together makes for the model holds the suffix too.
    ours = [job for job in jobs if suffix in (job.suffix or "", *(job.x_model_output_name or "").split("-"))]
    return [job.id for job in sorted(ours, key=lambda job: job.created_at)]


async def _file(client: AsyncTogether, dataset: TrainingFile, name: str) -> str:
    """The id of this training file at Together, whole. A start that was repeated finds its first upload."""
    size = len(dataset.content)
    for file in (await client.files.list()).data:
        if (file.filename, file.bytes) == (name, size) and file.processing_status not in _BROKEN_FILES:
            return file.id
    file = await _upload(client, dataset, name)
    if file.bytes == size:
        return str(file.id)
    # Left there it would be taken for the same content the next time.
    await client.files.delete(file.id)
    raise ProviderUnavailable(f"Of {size} bytes of the training file {file.bytes} reached Together.")


async def _upload(client: AsyncTogether, dataset: TrainingFile, name: str) -> Any:
    from together.lib.utils import check_file

    with tempfile.TemporaryDirectory(prefix="fineflow-") as folder:  # the SDK takes a path only
        path = Path(folder) / name
        await asyncio.to_thread(path.write_bytes, dataset.content)
        checked = await asyncio.to_thread(check_file, path)  # the SDK itself would hold up the loop with it
        if not checked["is_check_passed"]:
            raise ProviderRejected(
                f"Together would not take this training file: {checked['message']}",
                code="training_file_invalid",
            )
        return await client.files.upload(path, check=False)


def _parameters(spec: RunSpec) -> dict[str, Any]:
    config = spec.config
    if config.lr_scheduler not in (None, "linear", "cosine"):
        raise ProviderRejected(
            f"Together has no learning rate schedule {config.lr_scheduler!r}. Choose linear or cosine.",
            code="lr_scheduler_not_available",
        )
    parameters: dict[str, Any] = {
        "model": spec.base_model,
        "n_epochs": config.epochs,
        "batch_size": config.batch_size or "max",
        "learning_rate": config.learning_rate or _LEARNING_RATE * config.learning_rate_multiplier,
        "lr_scheduler_type": config.lr_scheduler or "cosine",
        "warmup_ratio": config.warmup_ratio or 0.0,
        "weight_decay": config.weight_decay,
        "max_seq_length": config.max_length,
        "random_seed": config.seed,
        "lora": spec.method != "full",
        "training_method": "dpo" if spec.method == "dpo" else "sft",
        "train_on_inputs": None if spec.method == "dpo" else "auto",
    }
    if spec.method == "dpo":
        parameters["dpo_beta"] = config.beta
    if spec.method != "full":
        modules = config.target_modules
        parameters |= {
            "lora_trainable_modules": modules if isinstance(modules, str) else ",".join(modules),
            "lora_r": config.lora_r,
            "lora_alpha": config.lora_alpha,
            "lora_dropout": config.lora_dropout,
        }
    return parameters


async def _delete_objects(client: AsyncTogether, job_id: str) -> None:
    """The weights of a job leave the registry of models; a job from before there was one goes with them."""
    job = await client.fine_tuning.retrieve(job_id)
    project = getattr(await client.whoami(), "project", None)
    objects = [found for found in (job.api_model_object_id, job.adapter_object_id) if found]
    if not objects or project is None:
        await client.fine_tuning.delete(job_id)
        return
    for model in objects:
        await client.models.delete(model, project_id=project.id)
