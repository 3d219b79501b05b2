"""What a job's row asks of a trainer."""

from __future__ import annotations

from uuid import UUID

from shared.jobs.model import Job
from shared.training.config import TrainingConfig
from shared.training.files import TrainingFile
from shared.training.spec import ParentModel, RunSpec


def run_spec(job: Job, file: TrainingFile, run_id: UUID, parent: ParentModel | None) -> RunSpec:
    """The present attempt of the job as a run. Equal rows and files give equal specs but for run_id.

    parent: as `parent_of_job` gives it.
    """
    dataset, validation = file.parts
    return RunSpec(
        job_id=job.id,
        attempt=job.attempt,
        run_id=run_id,
        base_model=job.base_model,
        base_revision=job.base_revision,
        parent=parent,
        method=job.method,
        config=TrainingConfig.model_validate(job.training_config),
        dataset=dataset,
        validation=validation,
        model_name=job.model_name,
        gpu=job.gpu,
        gpu_count=job.gpu_count,
        timeout_seconds=job.timeout_seconds,
    )
