"""What validate-dataset answers, and what is stored on the dataset's row."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from functions.messages import Response
from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.dataset_xray import DatasetXray
from shared.datasets.findings import Finding
from shared.datasets.validate import Validation
from shared.datasets.xray import RowXray, State


class FoundProblem(Response):
    rule: str = Field(description="docs/checking.md says what each means.")
    message: str
    pair_id: UUID | None = Field(description="null: it concerns the whole dataset.")
    ordinal: int | None = Field(description="The place of the pair in the dataset, from 1.")
    hint: str


class HistogramBin(Response):
    from_tokens: int
    below_tokens: int | None = Field(description="null: no end.")
    pairs: int


class DatasetStats(Response):
    """Over the pairs that would be trained on and have no error."""

    total_pairs: int
    avg_tokens_per_pair: float
    tokens_are_exact: bool = Field(description="false: the vocabulary was not there, they are estimated.")
    avg_quality_score: float | None = Field(description="null: no pair has a score.")
    unique_questions: int
    token_histogram: list[HistogramBin]
    languages: dict[str, float] = Field(description="Shares of a sample of answers, the largest first.")
    excluded_pairs: int = Field(description="Not valid, or rejected in review: not looked at.")
    kinds: dict[str, int] = Field(description="Of the pairs that were looked at.")
    splits: dict[str, int] = Field(description="'none': not split; they are trained on.")


class ShownToken(Response):
    id: int
    text: str
    state: State
    is_special: bool


class ShownRow(Response):
    """What a run makes of one pair."""

    pair_id: UUID
    ordinal: int
    trained_tokens: int
    masked_tokens: int = Field(description="Read, but not learned.")
    left_out_tokens: int
    reason: str | None = Field(description="Why no word of it is learned; null: some are.")
    is_refused: bool = Field(description="The run would stop at it.")
    remarks: list[str]
    tokens: list[ShownToken]


class LossXray(Response):
    """Over one epoch of supervised training with this base model, the rows of the part train."""

    base_model: str
    max_length_tokens: int = Field(description="A longer row is left out, never cut.")
    has_own_template: bool = Field(description="false: the trainer uses a plain one.")
    refusal: str | None = Field(description="Why no model should be trained on this; null: it can be.")
    content_hash: str | None = Field(description="SHA-256 of the training file that was looked at.")
    row_count: int
    used_rows: int
    rows_that_teach: int
    left_out_rows: int
    refused_rows: int
    tokens: int = Field(description="Trained and masked ones: what passes through the model.")
    trained_tokens: int
    masked_tokens: int
    left_out_tokens: int
    longest_row_tokens: int
    rows: list[ShownRow] = Field(default=[], description="Those asked for; not stored.")


class ValidationResult(Response):
    valid: bool
    errors: list[FoundProblem] = Field(description="They block training. At most 20 of each rule.")
    warnings: list[FoundProblem] = Field(description="They do not. At most 20 of each rule.")
    counts: dict[str, int] = Field(description="All findings of each rule.")
    stats: DatasetStats
    xray: LossXray | None = Field(description="null: no base model was named.")
    checked_at: datetime


def result_of(
    validation: Validation, base_model: str | None, tokenizer: BaseTokenizer | None, *, now: datetime
) -> ValidationResult:
    """The result of a validation that has finished."""
    problems = [(_problem(finding, validation), finding.is_error) for finding in validation.findings]
    seen = validation.xray
    return ValidationResult(
        valid=validation.is_valid,
        errors=[problem for problem, is_error in problems if is_error],
        warnings=[problem for problem, is_error in problems if not is_error],
        counts=dict(validation.counts),
        stats=_stats(validation),
        xray=_xray(validation, seen, base_model, tokenizer) if seen and base_model and tokenizer else None,
        checked_at=now,
    )


def _problem(finding: Finding, validation: Validation) -> FoundProblem:
    return FoundProblem(
        rule=finding.rule,
        message=finding.message,
        pair_id=None if finding.line is None else validation.pair_id(finding.line),
        ordinal=finding.line,
        hint=finding.hint or "",
    )


def _stats(validation: Validation) -> DatasetStats:
    stats = validation.stats
    return DatasetStats(
        total_pairs=stats.row_count,
        avg_tokens_per_pair=round(stats.mean_tokens, 2),
        tokens_are_exact=stats.is_exact,
        avg_quality_score=None if stats.mean_quality is None else round(stats.mean_quality, 4),
        unique_questions=stats.question_count,
        token_histogram=[
            HistogramBin(from_tokens=begin, below_tokens=end, pairs=pairs)
            for begin, end, pairs in stats.bins()
        ],
        languages={code: round(share, 4) for code, share in stats.languages.items()},
        excluded_pairs=validation.excluded_count,
        kinds=dict(validation.kinds),
        splits=dict(validation.splits),
    )


def _xray(validation: Validation, seen: DatasetXray, base_model: str, tokenizer: BaseTokenizer) -> LossXray:
    totals = seen.totals
    return LossXray(
        base_model=base_model,
        max_length_tokens=seen.limit_tokens,
        has_own_template=tokenizer.has_own_template,
        refusal=totals.refusal,
        content_hash=seen.content_hash,
        row_count=totals.rows,
        used_rows=totals.used_rows,
        rows_that_teach=totals.rows_that_teach,
        left_out_rows=totals.left_out_rows,
        refused_rows=totals.refused_rows,
        tokens=totals.tokens,
        trained_tokens=totals.trained_tokens,
        masked_tokens=totals.masked_tokens,
        left_out_tokens=totals.left_out_tokens,
        longest_row_tokens=totals.longest_row_tokens,
        rows=[_row(row, validation) for row in seen.in_full],
    )


def _row(row: RowXray, validation: Validation) -> ShownRow:
    return ShownRow(
        pair_id=validation.pair_id(row.line),
        ordinal=row.line,
        trained_tokens=row.trained_tokens,
        masked_tokens=row.masked_tokens,
        left_out_tokens=row.left_out_tokens,
        reason=row.reason,
        is_refused=row.is_refused,
        remarks=list(row.remarks),
        tokens=[ShownToken(**vars(token)) for token in row.tokens],
    )
