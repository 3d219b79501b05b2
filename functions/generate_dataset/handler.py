"""generate-dataset: documents of a project -> a dataset row that fills with pairs.

Called by a user it says what that will cost, or checks, inserts the dataset with one work item a chunk and
answers at once; it stops a generation, and lets one go on. Called by the event of the row, and by the sweep,
it works on the items until its time is up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

from functions.auth import CallerKind
from functions.context import Context
from functions.generate_dataset.request import DatasetGenerating, Estimate, GenerateDataset
from functions.generate_dataset.sources import ready_documents, spread, usable_chunks
from shared.db import Row
from shared.errors import CallerError, Conflict, InvalidRequest, NotFound, ProviderError
from shared.generation.batch import advance_batch, batches_of
from shared.generation.choice import Generation, generator_around, generator_of, open_model
from shared.generation.estimate import GenerationEstimate, estimate_generation
from shared.generation.prompt_set import Prompts, read_prompts
from shared.generation.source import Generator
from shared.generation.work import finished, work_on_dataset
from shared.keys.crypto import KeyDoesNotOpen
from shared.llm.base import ChatModel
from shared.llm.http_model import HttpModel
from shared.llm.prices import BATCH_SHARE

__all__ = ["DatasetGenerating", "GenerateDataset", "handle"]


async def handle(request: GenerateDataset, context: Context) -> DatasetGenerating:
    """The dataset is generating, or as far as this call could take it."""
    if context.caller.kind != CallerKind.USER:
        return _answer(await _work(request, context))
    if request.action == "stop":
        return _answer(await _stop(request, context))
    if request.action == "continue":
        return _answer(await _continue(request, context))
    return await _create(request, context)


def _answer(row: Row, estimate: Estimate | None = None) -> DatasetGenerating:
    return DatasetGenerating(
        dataset_id=row["id"], status=row["status"], chunk_count=row["chunk_count"], estimate=estimate
    )


async def _create(request: GenerateDataset, context: Context) -> DatasetGenerating:
    if request.project_id is None or request.dataset_id is not None:
        raise InvalidRequest("Give projectId and datasetName; datasetId is for stop and continue.")
    await context.require_role(request.project_id, "editor")
    model = await _model(request.generation, context.user_id, context)
    if request.batch:
        _require_batches(model)
    # What is wrong with a prompt of the project is told now, and not chunk by chunk.
    prompts = await read_prompts(context.user_db, str(request.project_id)) if model else Prompts()
    documents = await ready_documents(context.user_db, request.project_id, request.document_ids)
    generation = request.generation
    chunks = await usable_chunks(
        context.user_db,
        documents,
        include_flagged=generation.include_flagged,
        min_quality=generation.min_chunk_quality,
    )
    if request.max_pairs is not None:
        chunks = spread(chunks, -(-request.max_pairs // request.pairs_per_chunk))
    expected = await estimate_generation(
        model,
        request.mode,
        request.system_prompt,
        [chunk.token_count for chunk in chunks],
        lambda place: generation.quota(place, len(chunks)),
        generation.asking(prompts),
        in_batch=request.batch,
    )
    if request.action == "estimate":
        return DatasetGenerating(
            dataset_id=None, status=None, chunk_count=len(chunks), estimate=Estimate.of(expected)
        )
    if request.max_cost_usd is not None and expected.chunk_cost_usd is None:
        raise InvalidRequest(
            "A cap cannot hold what has no known price. Leave maxCostUsd out, or take another model.",
            code="cost_unknown",
        )
    created: Row = await context.service_db.call(
        "create_generated_dataset",
        dataset=_row(request, context.user_id, expected),
        chunk_ids=[chunk.id for chunk in chunks],
    )
    return _answer(created, Estimate.of(expected))


def _row(request: GenerateDataset, user_id: UUID, expected: GenerationEstimate) -> dict[str, Any]:
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
        "max_cost_usd": _text(request.max_cost_usd),
        "chunk_cost_usd": _text(expected.chunk_cost_usd),
    }


async def _stop(request: GenerateDataset, context: Context) -> Row:
    """No chunk is begun any more. What a running call has in hand is still finished, and paid for."""
    dataset = await _editable(request, context)
    if not await context.service_db.call("stop_generation", dataset_id=dataset["id"]):
        raise Conflict(
            f"The dataset is {dataset['status']}, not generating.",
            code="dataset_not_generating",
            details={"status": dataset["status"]},
        )
    return await finished(context.service_db, UUID(dataset["id"]))


async def _continue(request: GenerateDataset, context: Context) -> Row:
    dataset = await _editable(request, context)
    went_on: Row = await context.service_db.call(
        "continue_generation",
        dataset_id=dataset["id"],
        max_cost_usd=_text(request.max_cost_usd),
        batch_share=_text(BATCH_SHARE) if request.leaves_batch else None,
    )
    if went_on["outcome"] == "not_ended":
        raise Conflict(
            f"The dataset is {went_on['status']}. What is ready or failed can be continued.",
            code="dataset_not_ended",
            details={"status": went_on["status"]},
        )
    if went_on["outcome"] == "nothing_left":
        raise Conflict("Every chunk of this dataset is done.", code="nothing_to_continue")
    continued: Row = went_on["dataset"]
    return continued


async def _editable(request: GenerateDataset, context: Context) -> Row:
    assert request.dataset_id is not None  # the request's validator saw to it
    return await context.visible("training_datasets", request.dataset_id, what="dataset", least="editor")


async def _work(request: GenerateDataset, context: Context) -> Row:
    dataset = await context.service_db.find("training_datasets", id=request.dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {request.dataset_id}.", code="dataset_not_found")
    if dataset["status"] != "generating" or dataset["source"] != "documents":
        return dataset  # it is done, or its rows are imported
    owner = UUID(dataset["created_by"]) if dataset["created_by"] else None
    generation = Generation.model_validate(dataset["generation"])

    async def asking() -> Callable[[ChatModel], Generator]:
        has_prompts = generation.generator != "extractive"
        prompts = await read_prompts(context.service_db, dataset["project_id"]) if has_prompts else Prompts()
        return lambda asked: generator_around(
            asked,
            dataset["mode"],
            dataset["system_prompt"],
            generation.asking(prompts),
            project_id=UUID(dataset["project_id"]),
            settings=context.settings,
        )

    async def opened() -> Generator:
        model = await _model(generation, owner, context)
        return generator_of(model, generation, await asking(), dataset["mode"], (context.service_db, dataset))

    if generation.batch:
        # Without a key, an address or a usable prompt, the work below fails the chunks with what is missing.
        with suppress(CallerError, ProviderError, KeyDoesNotOpen):
            model = await _model(generation, owner, context)
            await _advance(dataset, model, await asking(), generation, context)
    return await work_on_dataset(context.service_db, dataset, opened)


async def _advance(
    dataset: Row,
    model: HttpModel | None,
    around: Callable[[ChatModel], Generator],
    generation: Generation,
    context: Context,
) -> None:
    if model is None:
        return
    try:
        await advance_batch(
            context.service_db,
            dataset,
            model,
            around,
            lambda place: generation.quota(place, dataset["chunk_count"]),
            late_seconds=context.settings.provider_late_seconds,
        )
    finally:
        await model.close()


def _require_batches(model: HttpModel | None) -> None:
    """Raises InvalidRequest where there are none."""
    if model is None:
        raise InvalidRequest(
            "The generator extractive asks no vendor. Leave batch out.", code="batch_not_offered"
        )
    batches_of(model)


async def _model(generation: Generation, user_id: UUID | None, context: Context) -> HttpModel | None:
    return await open_model(
        generation, user_id=user_id, keys=context.services.keys, settings=context.settings
    )


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else str(usd)
