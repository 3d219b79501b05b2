"""validate-dataset: may this dataset be trained on, what would make it better, and what would a run learn?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from uuid import UUID

from pydantic import Field, model_validator

from functions.context import Context, Services
from functions.estimate_training.parent import named_model
from functions.messages import Request
from functions.validate_dataset.result import ValidationResult, result_of
from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.bases import tokenizer_directory
from shared.datasets.dataset_xray import DatasetXray, save_xray
from shared.datasets.model import Pair
from shared.datasets.overlap import Overlap
from shared.datasets.store import pair_pages
from shared.datasets.validate import Validation
from shared.db import Row
from shared.errors import FineFlowError
from shared.generation.remeasure import remeasured
from shared.training.files import MAX_LENGTH_TOKENS
from shared.training.spec import BaseModelId

MAX_SHOWN_ROWS = 50
_TOLD_EVERY_SECONDS = 2.0


class ValidateDataset(Request):
    dataset_id: UUID
    base_model: BaseModelId | None = Field(
        default=None, description="Whose tokenizer and chat template show what would be learned."
    )
    max_length_tokens: int = Field(
        default=MAX_LENGTH_TOKENS, ge=16, le=131_072, description="As maxLength in the config of a job."
    )
    show_rows: int = Field(
        default=0, ge=0, le=MAX_SHOWN_ROWS, description="So many of the first rows are shown token by token."
    )
    show_pairs: list[UUID] = Field(
        default=[], max_length=MAX_SHOWN_ROWS, description="These pairs are shown token by token."
    )

    @model_validator(mode="after")
    def _shown_by_a_model(self) -> ValidateDataset:
        if self.base_model is None and (self.show_rows or self.show_pairs):
            raise ValueError("give baseModel: its tokens are shown")
        return self


async def handle(request: ValidateDataset, context: Context) -> ValidationResult:
    """The result, which is then also on the dataset's row, without the rows shown."""
    dataset = await context.visible("training_datasets", request.dataset_id, what="dataset", least="editor")
    if request.base_model is not None:
        model = await named_model(request.base_model, dataset["project_id"], context)
        if model is not None:  # it has kept the tokenizer and the template
            request = request.model_copy(update={"base_model": model["root_base_model"]})
    return await validated(request, dataset, context.services)


async def validated(
    request: ValidateDataset,
    dataset: Row,
    services: Services,
    pages: AsyncIterator[list[Row]] | None = None,
) -> ValidationResult:
    """The same for a dataset that the caller may validate: memory holds a page of it at a time.

    pages: all its rows of `training_pairs`, in order, from who stores them; None: they are fetched. Raises
    InvalidRequest when the base model's tokenizer is not here or cannot be used.
    """
    with ExitStack() as open_things:
        tokenizer = seen = None
        if request.base_model is not None:
            tokenizer = open_things.enter_context(await asyncio.to_thread(_tokenizer, request, services))
            seen = DatasetXray(
                tokenizer,
                request.max_length_tokens,
                rows_in_full=request.show_rows,
                pair_ids=request.show_pairs,
            )
        overlap = open_things.enter_context(Overlap())
        validation = Validation(dataset["format"], overlap, seen)
        try:
            await _look_at_all(validation, dataset, services, pages)
        except BaseException:
            with suppress(FineFlowError):
                await _tell(services, dataset, validation_percent=None)
            raise
        result = result_of(validation, request.base_model, tokenizer, now=services.now())
        if seen is not None and request.base_model is not None:
            await save_xray(services.db, dataset, request.base_model, request.max_length_tokens, seen)
    stored = result.model_dump(mode="json", by_alias=True, exclude={"xray": {"rows"}})
    await _tell(services, dataset, validation=stored, validation_percent=None)
    return result


async def _look_at_all(
    validation: Validation, dataset: Row, services: Services, pages: AsyncIterator[list[Row]] | None
) -> None:
    dataset_id, told_at = UUID(dataset["id"]), time.monotonic()
    async for rows in pages or pair_pages(services.db, dataset_id):
        measured = await remeasured(services.db, dataset_id, rows)
        await asyncio.to_thread(_look_at, validation, measured)
        if pages is None and time.monotonic() - told_at > _TOLD_EVERY_SECONDS:
            told_at = time.monotonic()
            share = validation.pair_count / max(dataset["pair_count"], validation.pair_count)
            await _tell(services, dataset, validation_percent=int(99 * share))
    await asyncio.to_thread(validation.finish)


def _look_at(validation: Validation, rows: Sequence[Row]) -> None:
    validation.add([Pair.from_row(row) for row in rows])


async def _tell(services: Services, dataset: Row, **columns: object) -> None:
    table = services.db.table("training_datasets")
    await services.db.run(table.update(columns).eq("id", dataset["id"]))


def _tokenizer(request: ValidateDataset, services: Services) -> BaseTokenizer:
    assert request.base_model is not None  # the caller asks only then
    settings = services.settings
    directory = tokenizer_directory(
        request.base_model, data_dir=settings.data_dir, model_dirs=settings.base_model_dirs
    )
    return BaseTokenizer(directory)
