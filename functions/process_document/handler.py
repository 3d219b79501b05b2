"""process-document: an uploaded file -> its text -> chunks, and the document is ready or failed."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from uuid import UUID

from functions.auth import CallerKind
from functions.context import Context
from functions.messages import Request, Response
from shared.datasets.sketches import sketches
from shared.db import Row
from shared.documents.chunks import content_hash, split
from shared.documents.extract import extract_text
from shared.errors import CallerError, InvalidRequest, NotFound

_LEASE_SECONDS = 180  # a document of the largest size and the worst shape took 150 s to cut
_MAX_ATTEMPTS = 4


class ProcessDocument(Request):
    document_id: UUID


class DocumentProcessed(Response):
    document_id: UUID
    status: str
    chunk_count: int


async def handle(request: ProcessDocument, context: Context) -> DocumentProcessed:
    """The document is ready with its chunks, or failed with the reason on its row.

    A document that is done, or that another call works on, is left as it is.
    """
    if context.caller.kind == CallerKind.USER:
        await context.visible("documents", request.document_id, what="document", least="editor")
    claimed: Row | None = await context.service_db.call(
        "claim_document", document_id=str(request.document_id), lease_seconds=_LEASE_SECONDS
    )
    if claimed is not None:
        await _process(claimed, context)
    row = await context.service_db.find("documents", id=request.document_id)
    if row is None:
        raise NotFound(f"There is no document {request.document_id}.", code="document_not_found")
    return DocumentProcessed(document_id=row["id"], status=row["status"], chunk_count=row["chunk_count"])


async def _process(document: Row, context: Context) -> None:
    lease = {"document_id": document["id"], "lease_token": document["lease_token"]}
    try:
        text_hash, rows = await _chunks(document, context)
    except CallerError as error:
        failure = {"code": error.code, "message": error.message}
        await context.service_db.call("fail_document", **lease, error=failure)
        return
    await context.service_db.call(
        "save_compared_chunks",
        **lease,
        content_hash=text_hash,
        chunks=rows,
        least_similarity=context.settings.near_duplicate_similarity,
    )


async def _chunks(document: Row, context: Context) -> tuple[str, list[Row]]:
    """The hash of the text, and the rows of its chunks, each with what others are compared with it by.

    Raises CallerError for what trying again would not mend.
    """
    if document["attempts"] > _MAX_ATTEMPTS:
        raise InvalidRequest(
            f"The document was given up after {_MAX_ATTEMPTS} attempts. Split it and upload the parts.",
            code="document_too_hard",
        )
    content = await context.storage.download("documents", document["storage_path"])
    text = await extract_text(content, name=document["name"], mime_type=document["mime_type"])

    def rows() -> list[Row]:
        chunks = split(text, max_tokens=context.settings.chunk_tokens)
        sketched = sketches((chunk.content for chunk in chunks), UUID(document["project_id"]).bytes)
        return [chunk.as_row() | asdict(sketch) for chunk, sketch in zip(chunks, sketched, strict=True)]

    # In a thread: other calls go on while a long document is cut.
    return content_hash(text.content), await asyncio.to_thread(rows)
