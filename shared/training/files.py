"""The rows of a run, as bytes that a provider takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.training.spec import DatasetFile

MAX_LENGTH_TOKENS = 1024  # of a row, where the user names no limit


@dataclass(frozen=True)
class TrainingFile:
    """One JSON object a line, UTF-8, as `shared/datasets/training_rows` reads it for the method of the run.

    Equal datasets give equal bytes.
    """

    content: bytes
    sha256: str  # of content, hexadecimal
    row_count: int
    token_count: int  # of one epoch, counted with o200k_base: near enough for other tokenizers to estimate
    char_count: int
    row_tokens: Sequence[int] = ()  # of each row, counted alike; empty: they were not counted apart
    longest_row_tokens: int | None = None  # None: not known
    has_exact_tokens: bool = False  # counted with the base model's own tokenizer and template
    validation: TrainingFile | None = None  # rows that are held out, written alike; None: none are
    # The pairs that it holds of each document; those of no document are not told.
    pairs_of_document: Mapping[UUID, Sequence[UUID]] = field(default_factory=dict)

    @property
    def documents(self) -> dict[str, list[str]]:
        """`pairs_of_document` as JSON."""
        return {str(document): list(map(str, pairs)) for document, pairs in self.pairs_of_document.items()}

    @property
    def parts(self) -> tuple[DatasetFile, DatasetFile | None]:
        """How a RunSpec names these rows, and those that are held out."""
        held_out = self.validation.named("validation.jsonl") if self.validation else None
        return self.named("train.jsonl"), held_out

    def named(self, name: str) -> DatasetFile:
        """These rows as a file of this name in a run directory."""
        return DatasetFile(name=name, sha256=self.sha256, row_count=self.row_count)
