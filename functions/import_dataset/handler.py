"""import-dataset: files, rows or conversations that somebody has -> a dataset row that fills with pairs.

Called by a user it checks what can be told at once, inserts the dataset, and answers. Called by the event of
that row, and by the sweep, it reads, checks and stores until all is read or its time is up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

from functions.auth import CallerKind
from functions.context import Context
from functions.import_dataset.request import ImportDataset
from functions.messages import Response
from functions.validate_dataset.handler import ValidateDataset, validated
from shared.db import Row
from shared.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge
from shared.imports.work import work_on_import

MAX_BYTES = 2**30  # of all files of an import together


class DatasetImporting(Response):
    dataset_id: UUID
    status: str
    file_count: int
    byte_count: int
    created: bool  # false: the call was made before, and this is its dataset


async def handle(request: ImportDataset, context: Context) -> DatasetImporting:
    """The dataset is being imported, or as far as this call could take it."""
    if context.caller.kind == CallerKind.USER:
        row, is_new = await _create(request, context)
    else:
        row, is_new = await _work(request, context), False
    return DatasetImporting(
        dataset_id=row["id"],
        status=row["status"],
        file_count=row["file_count"],
        byte_count=row["byte_count"],
        created=is_new,
    )


async def _create(request: ImportDataset, context: Context) -> tuple[Row, bool]:
    if request.project_id is None or request.dataset_id is not None:
        raise InvalidRequest("Give projectId and datasetName; datasetId is for row events.")
    await context.require_role(request.project_id, "editor")
    files = await _files(request, context)
    answer = await context.service_db.call(
        "create_imported_dataset",
        dataset={
            "project_id": str(request.project_id),
            "created_by": str(context.user_id),
            "name": request.dataset_name,
            "format": request.format,
            "system_prompt": request.system_prompt or None,
            "source": request.source,
        },
        **{
            "import": {
                "idempotency_key": request.idempotency_key or str(uuid4()),
                "request_hash": request.fingerprint,
                "files": files,
                "rows": request.lines,
                "options": request.options.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            }
        },
    )
    dataset: Row = answer["dataset"]
    if answer["outcome"] == "key_reused":
        raise Conflict(
            "This idempotencyKey was used with other rows or options. Use a new one for another dataset.",
            code="idempotency_key_reused",
            details={"datasetId": dataset["id"]},
        )
    return dataset, answer["outcome"] == "created"


async def _files(request: ImportDataset, context: Context) -> list[dict[str, Any]]:
    """What is to be read, in order: the files as they are now, or the rows of the call as one."""
    if request.lines is not None:
        name = "rows" if request.rows is not None else "conversations"
        return [{"path": None, "name": name, "byte_size": len(request.lines), "version": None}]
    asked = request.files or []
    found = await context.service_db.call("uploaded_files", paths=[file.path for file in asked])
    uploaded = {file["path"]: file for file in found}
    if missing := [file.path for file in asked if file.path not in uploaded]:
        raise NotFound(
            f"There is no file uploads/{missing[0]}. Upload it first.",
            code="file_not_found",
            details={"missing": missing},
        )
    total = sum(file["byte_size"] for file in found)
    if total > MAX_BYTES:
        raise PayloadTooLarge(
            f"The files have {total:,} bytes; an import may have {MAX_BYTES:,}. Import them in parts.",
            code="import_too_large",
            details={"byteSize": total, "limitBytes": MAX_BYTES},
        )
    return [uploaded[file.path] | {"name": file.shown_name} for file in asked]


async def _work(request: ImportDataset, context: Context) -> Row:
    if request.dataset_id is None:
        raise InvalidRequest("Give datasetId.")

    async def validation(dataset: Row, pages: AsyncIterator[list[Row]] | None) -> dict[str, Any]:
        request = ValidateDataset(dataset_id=dataset["id"])
        result = await validated(request, dataset, context.services, pages)
        return result.model_dump(mode="json", by_alias=True)

    return await work_on_import(context.service_db, context.storage, request.dataset_id, validation)
