"""The rows of a run, as bytes that a provider takes."""

from __future__ import annotations

from dataclasses import dataclass

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
    validation: TrainingFile | None = None  # rows that are held out, written alike; None: none are
