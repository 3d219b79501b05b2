"""generate-dataset: documents of a project -> a dataset row that fills with pairs.

Called by a user it checks, inserts the dataset with one work item a chunk, and answers at once. Called by
the event of that row, and by the sweep, it works on the items until its time is up.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field, model_validator

from functions.auth import CallerKind
from functions.context import Context
from functions.generate_dataset.sources import ready_documents, spread, usable_chunks
from functions.messages import Request, Response
from shared.datasets.formats import Format
from shared.db import Row
from shared.errors import InvalidRequest, NotFound
from shared.generation.choice import Generation, GeneratorName, open_generator
from shared.generation.source import Generator, Mode
from shared.generation.work import work_on_dataset


class GenerateDataset(Request):
    """What to make of which documents; or (row events) the id of a dataset to work on."""

    project_id: UUID | None = None
    dataset_name: str | None = Field(default=None, min_length=1, max_length=120)
    format: Format = "openai"
    mode: Mode = "auto"
    system_prompt: str | None = Field(default=None, max_length=8000)
    document_ids: list[UUID] | None = Field(
        default=None, min_length=1, max_length=1000, description="null: all ready documents of the project."
    )
    generator: GeneratorName = "extractive"
    model: str | None = Field(default=None, min_length=1, max_length=200)
    pairs_per_chunk: int = Field(default=3, ge=1, le=10)
    max_pairs: int | None = Field(default=None, ge=10, le=10_000)
    dataset_id: UUID | None = Field(default=None, description="Row events only.")

    @model_validator(mode="after")
    def _one_of_two(self) -> GenerateDataset:
        if self.dataset_id is None and (self.project_id is None or self.dataset_name is None):
            raise ValueError("give projectId and datasetName")
        if any("\0" in text for text in (self.dataset_name, self.system_prompt, self.model) if text):
            raise ValueError("a text holds a NUL")
        return self

    @property
    def generation(self) -> Generation:
        return Generation(
            generator=self.generator,
            model=self.model,
            pairs_per_chunk=self.pairs_per_chunk,
            max_pairs=self.max_pairs,
        )


class DatasetGenerating(Response):
    dataset_id: UUID
    status: str
    chunk_count: int


async def handle(request: GenerateDataset, context: Context) -> DatasetGenerating:
    """The dataset is generating, or as far as this call could take it."""
    if context.caller.kind == CallerKind.USER:
        row = await _create(request, context)
    else:
        row = await _work(request, context)
    return DatasetGenerating(dataset_id=row["id"], status=row["status"], chunk_count=row["chunk_count"])


async def _create(request: GenerateDataset, context: Context) -> Row:
    if request.project_id is None or request.dataset_id is not None:
        raise InvalidRequest("Give projectId and datasetName; datasetId is for row events.")
    await context.require_role(request.project_id, "editor")
    generator = await _generator(
        request.generation,
        request.mode,
        request.system_prompt,
        request.project_id,
        context.user_id,
        context,
    )
    await generator.close()
    documents = await ready_documents(context.user_db, request.project_id, request.document_ids)
    chunks = await usable_chunks(context.user_db, documents)
    if request.max_pairs is not None:
        chunks = spread(chunks, -(-request.max_pairs // request.pairs_per_chunk))
    created: Row = await context.service_db.call(
        "create_generated_dataset", dataset=_row(request, context.user_id), chunk_ids=chunks
    )
    return created


def _row(request: GenerateDataset, user_id: UUID) -> dict[str, Any]:
    document_ids = [str(document_id) for document_id in request.document_ids or []]
    return {
        "project_id": str(request.project_id),
        "created_by": str(user_id),
        "name": request.dataset_name,
        "format": request.format,
        "mode": request.mode,
        "system_prompt": request.system_prompt or None,
        "document_ids": document_ids or None,
        "generation": request.generation.model_dump(),
    }


async def _work(request: GenerateDataset, context: Context) -> Row:
    dataset = await context.service_db.find("training_datasets", id=request.dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {request.dataset_id}.", code="dataset_not_found")
    if dataset["status"] != "generating" or dataset["source"] != "documents":
        return dataset  # it is done, or its rows are imported
    owner = UUID(dataset["created_by"]) if dataset["created_by"] else None
    generation = Generation.model_validate(dataset["generation"])
    project_id = UUID(dataset["project_id"])
    return await work_on_dataset(
        context.service_db,
        dataset,
        lambda: _generator(generation, dataset["mode"], dataset["system_prompt"], project_id, owner, context),
    )


async def _generator(
    generation: Generation,
    mode: Mode,
    system_prompt: str | None,
    project_id: UUID,
    user_id: UUID | None,
    context: Context,
) -> Generator:
    return await open_generator(
        generation,
        mode,
        system_prompt,
        project_id=project_id,
        user_id=user_id,
        keys=context.services.keys,
        settings=context.settings,
    )
