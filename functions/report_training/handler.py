"""report-training: a running trainer says how it is doing.

Progress goes to the row, numbers to training_metrics, events to training_job_events, each once: a
report that was stored before is skipped by its number. The first report claims the attempt. A trainer
in a rented container has only its ticket then; the answer to its claim holds the work. Where it goes on
from a model in Storage it asks for addresses to fetch that, and where its disk does not last for places for
its own (places.py).
"""

from __future__ import annotations

from uuid import UUID

from functions.context import Context
from functions.report_training.places import base_places, places, require_own_artifact
from shared.errors import Conflict, NotFound, Unauthorized
from shared.jobs.parent import parent_of_job
from shared.jobs.spec import run_spec
from shared.training.files import TrainingFile
from shared.training.spec import ReportBatch, ReportReceipt, TrainerWork

TRAINING_FILES = "training-files"
_DATASET_URL_SECONDS = 3600
_NOT_TRAINING = frozenset({"uploading", "validating", "queued"})


async def handle(request: ReportBatch, context: Context) -> ReportReceipt:
    """The reports are stored, and the job core has looked at the job when they change its state."""
    trainer = context.caller.trainer
    if trainer is None or trainer.attempt != request.attempt:
        raise Unauthorized("This token is for another attempt.", code="invalid_token")
    await require_own_artifact(trainer.job_id, request, context)
    answer = await context.services.jobs.store.report(
        trainer.job_id,
        attempt=request.attempt,
        run_id=request.run_id,
        reports=[report.model_dump(mode="json") for report in request.reports],
        provider_job_id=request.provider_job_id,
    )
    if answer["outcome"] == "job_not_found":
        raise NotFound("The job of this token does not exist any more.", code="job_not_found")
    if answer["outcome"] == "claim_lost":
        raise Conflict("Another trainer has this job, or it has ended. Stop.", code="claim_lost")
    if answer["has_result"] or answer["status"] in _NOT_TRAINING:
        await context.services.jobs.advance(trainer.job_id)
    return ReportReceipt(
        accepted_seq=answer["accepted_seq"],
        cancel_requested=answer["cancel_requested"],
        work=await _work(trainer.job_id, request.run_id, context) if request.want_work else None,
        model_places=await places(trainer.job_id, request.model_files, context)
        if request.model_files
        else None,
        base_places=await base_places(trainer.job_id, request.base_pieces, context),
    )


async def _work(job_id: UUID, run_id: UUID, context: Context) -> TrainerWork:
    """The run of this trainer, its rows lying where it can fetch them. Asked again it is the same."""
    jobs = context.services.jobs
    job = await jobs.store.get(job_id)
    file = await jobs.build_training_file(job.dataset_id, job.method)
    if not file.row_count:
        raise Conflict("The dataset of this job has no usable pair any more.", code="dataset_empty")
    await jobs.store.record_fetched(job.id, attempt=job.attempt, documents=file.documents)
    provider = context.services.providers[job.provider]
    return TrainerWork(
        spec=run_spec(job, file, run_id, await parent_of_job(jobs.store, job, provider)),
        dataset_url=await _placed(job_id, file, context),
        validation_url=await _placed(job_id, file.validation, context) if file.validation else None,
        stores_model=not provider.keeps_disk,
    )


async def _placed(job_id: UUID, file: TrainingFile, context: Context) -> str:
    """The address of the rows, for who has it; they lie there now."""
    path = f"{job_id}/{file.sha256}.jsonl"
    await context.storage.upload(TRAINING_FILES, path, file.content, "application/jsonl")
    return await context.storage.signed_url(TRAINING_FILES, path, expires_in_seconds=_DATASET_URL_SECONDS)
