"""Places in Storage, where a trainer puts its model or fetches its parent. Only who has the claim comes here.

Storage itself is the memory: what lies there with the right size is not asked for again. Names are the sha256
of contents, so no trainer chooses a path, and what it sends is proven when it is fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from functions.context import Context
from shared.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge
from shared.models.stored import StoredModel, stored, too_large
from shared.training.model_files import BUCKET, ModelFiles
from shared.training.spec import ModelPlaces, Place, ReportBatch, parent_id

PLACES_AT_ONCE = 16  # few enough that none expires before its turn
_FETCH_SECONDS = 3600


async def places(job_id: UUID, files: ModelFiles, context: Context) -> ModelPlaces:
    """Where missing pieces go; when none is missing, the list is kept beside them and the model has its path.

    Raises PayloadTooLarge over the limit of the settings; what this attempt has sent in vain, such as the
    model of a container that was lost, may take as much again.
    """
    limit = context.settings.model_storage_limit_bytes
    job = await context.services.jobs.store.get(job_id)
    model = StoredModel(job.project_id, job.id, job.attempt, files.sha256)
    there: dict[str, int | None] = await context.service_db.call("stored_pieces", folder=model.folder)
    missing = {sha256: size for sha256, size in files.pieces().items() if there.get(sha256) != size}
    missing_bytes = sum(missing.values())
    if files.size_bytes > limit or missing_bytes + sum(size or 0 for size in there.values()) > 2 * limit:
        raise PayloadTooLarge(too_large(files.size_bytes, limit), code="artifact_too_large")
    if missing:
        wanted = list(missing)[:PLACES_AT_ONCE]
        paths = (f"{model.folder}/{sha256}" for sha256 in wanted)
        urls = await asyncio.gather(*(context.storage.signed_upload_url(BUCKET, path) for path in paths))
        given = [Place(sha256=sha256, url=url) for sha256, url in zip(wanted, urls, strict=True)]
        return ModelPlaces(missing_bytes=missing_bytes, places=given)
    await context.storage.upload(
        BUCKET, f"{model.folder}/{model.sha256}", files.content(), "application/octet-stream"
    )
    return ModelPlaces(missing_bytes=0, artifact_path=str(model))


async def base_places(job_id: UUID, pieces: Sequence[str], context: Context) -> list[Place]:
    """Where these pieces of the model lie that the job starts from; it stays until the job has ended.

    Raises InvalidRequest when the job starts from none in Storage, and Conflict when a piece is not there.
    """
    if not pieces:
        return []
    jobs = context.services.jobs.store
    model_id = parent_id((await jobs.get(job_id)).base_model)
    model = stored((await jobs.model(model_id))["artifact_path"]) if model_id else None
    if model is None:
        raise InvalidRequest("This job starts from no model in Storage.", code="base_model_misplaced")
    paths = [f"{model.folder}/{sha256}" for sha256 in pieces]
    try:
        urls = await asyncio.gather(
            *(context.storage.signed_url(BUCKET, path, expires_in_seconds=_FETCH_SECONDS) for path in paths)
        )
    except NotFound as error:
        raise Conflict(
            "A piece of the base model is not in Storage any more. Train the base model again.",
            code="base_model_gone",
        ) from error
    return [Place(sha256=sha256, url=url) for sha256, url in zip(pieces, urls, strict=True)]


async def require_own_artifact(job_id: UUID, request: ReportBatch, context: Context) -> None:
    """Raises InvalidRequest when a trainer says that its model is one that another job has stored."""
    for report in request.reports:
        model = stored(report.result.artifact_path) if report.result else None
        if model is None:
            continue
        job = await context.services.jobs.store.get(job_id)
        own = StoredModel(job.project_id, job.id, request.attempt, model.sha256)
        if model != own:
            raise InvalidRequest("This is the model of another job.", code="artifact_path_invalid")
