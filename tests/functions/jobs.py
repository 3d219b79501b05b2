"""Jobs that a test moves by itself. Use them within `undisturbed`, or the stack moves them too."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.functions.world import World

TO_TRAINING = ("uploading", "validating", "queued", "training")


def new_job(world: World, *, provider: str = "local", provider_job_id: str | None = None) -> str:
    """A pending job of the world's owner."""
    ((job,),) = world.rows(
        "insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key, request_hash,"
        " provider, base_model, method, model_name, provider_job_id)"
        " values (%s, %s, %s, %s, 'h', %s, 'fineflow/tiny', 'full', 'm', %s) returning id",
        world.project, world.dataset, world.user, uuid4().hex, provider, provider_job_id,
    )  # fmt: skip
    return str(job)


def move(world: World, job: str, *statuses: str, **columns: Any) -> None:
    """The job walks through these statuses, then has these values."""
    for status in statuses:
        world.rows("update public.training_jobs set status = %s where id = %s", status, job)
    if columns:
        changes = ", ".join(f"{name} = %s" for name in columns)
        world.rows(f"update public.training_jobs set {changes} where id = %s", *columns.values(), job)


def row_of(world: World, job: str) -> dict[str, Any]:
    """The job's row as PostgREST gives it."""
    ((row,),) = world.rows("select to_jsonb(j) from public.training_jobs j where id = %s", job)
    return dict(row)
