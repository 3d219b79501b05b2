"""export-dataset: the usable pairs as one file that a trainer elsewhere reads, behind a signed address."""

from __future__ import annotations

import asyncio
import hashlib
from uuid import UUID

from pydantic import Field

from functions.context import Context
from functions.messages import Request, Response
from shared.datasets.formats import Format, jsonl
from shared.datasets.store import read_pairs
from shared.datasets.validate import MAX_FILE_BYTES
from shared.errors import InvalidRequest, PayloadTooLarge

_URL_SECONDS = 3600


class ExportDataset(Request):
    dataset_id: UUID
    format: Format | None = Field(default=None, description="null: the dataset's own.")


class DatasetExported(Response):
    dataset_id: UUID
    format: Format
    path: str = Field(description="In the bucket `exports`.")
    signed_url: str
    expires_in_seconds: int
    pair_count: int
    byte_size: int


async def handle(request: ExportDataset, context: Context) -> DatasetExported:
    """The file is in the bucket `exports`; its name holds its hash, so equal exports are one file."""
    dataset = await context.visible("training_datasets", request.dataset_id, what="dataset")
    format: Format = request.format or dataset["format"]
    pairs = [pair for pair in await read_pairs(context.service_db, request.dataset_id) if pair.is_usable]
    if not pairs:
        raise InvalidRequest("The dataset has no valid pair to export.", code="dataset_empty")
    content = await asyncio.to_thread(jsonl, pairs, format)
    if len(content) > MAX_FILE_BYTES:
        raise PayloadTooLarge(
            f"The export has {len(content):,} bytes; {MAX_FILE_BYTES:,} are allowed. Split the dataset.",
            details={"byteSize": len(content), "limitBytes": MAX_FILE_BYTES},
        )
    short_hash = hashlib.sha256(content).hexdigest()[:16]
    path = f"{dataset['project_id']}/{dataset['id']}/{format}-{short_hash}.jsonl"
    await context.storage.upload("exports", path, content, "application/jsonl")
    return DatasetExported(
        dataset_id=request.dataset_id,
        format=format,
        path=path,
        signed_url=await context.storage.signed_url("exports", path, expires_in_seconds=_URL_SECONDS),
        expires_in_seconds=_URL_SECONDS,
        pair_count=len(pairs),
        byte_size=len(content),
    )
