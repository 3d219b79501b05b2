"""validate-dataset: may this dataset be trained on, and what would make it better?"""

from __future__ import annotations

import asyncio
from uuid import UUID

from pydantic import Field

from functions.context import Context
from functions.messages import Request, Response
from shared.datasets.store import read_pairs
from shared.datasets.validate import Finding, Validation, validate


class ValidateDataset(Request):
    dataset_id: UUID


class FoundProblem(Response):
    rule: str
    message: str
    pair_id: UUID | None = Field(description="null: it concerns the whole dataset.")
    ordinal: int | None = Field(description="The place of the pair in the dataset, from 1.")
    hint: str


class DatasetStats(Response):
    total_pairs: int = Field(description="Pairs that would be trained on: valid and not rejected.")
    avg_tokens_per_pair: float
    avg_quality_score: float
    unique_questions: int
    excluded_pairs: int


class ValidationResult(Response):
    valid: bool
    errors: list[FoundProblem] = Field(description="They block training. At most 20 of each rule.")
    warnings: list[FoundProblem] = Field(description="They do not. At most 20 of each rule.")
    counts: dict[str, int] = Field(description="All findings of each rule.")
    stats: DatasetStats


async def handle(request: ValidateDataset, context: Context) -> ValidationResult:
    """The result, which is then also on the dataset's row."""
    dataset = await context.visible("training_datasets", request.dataset_id, what="dataset", least="editor")
    pairs = await read_pairs(context.service_db, request.dataset_id)
    result = _result(await asyncio.to_thread(validate, pairs, dataset["format"]))
    table = context.service_db.table("training_datasets")
    stored = {"validation": result.model_dump(mode="json", by_alias=True)}
    await context.service_db.run(table.update(stored).eq("id", dataset["id"]))
    return result


def _result(validation: Validation) -> ValidationResult:
    return ValidationResult(
        valid=validation.is_valid,
        errors=[_problem(finding) for finding in validation.errors],
        warnings=[_problem(finding) for finding in validation.warnings],
        counts=validation.counts,
        stats=DatasetStats(**vars(validation.stats)),
    )


def _problem(finding: Finding) -> FoundProblem:
    return FoundProblem(
        rule=finding.rule,
        message=finding.message,
        pair_id=finding.pair_id,
        ordinal=finding.ordinal,
        hint=finding.hint,
    )
