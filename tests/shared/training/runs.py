"""Runs and files to estimate."""

from __future__ import annotations

from uuid import uuid4

from shared.training.config import Method, TrainingConfig
from shared.training.files import TrainingFile
from shared.training.spec import DatasetFile, RunSpec


def run(
    base_model: str, method: Method = "lora", *, epochs: int = 3, batch_size: int | None = None
) -> RunSpec:
    return RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=base_model,
        method=method,
        config=TrainingConfig(epochs=epochs, batch_size=batch_size),
        dataset=DatasetFile(sha256="0" * 64, row_count=100),
    )


def rows(count: int, *, tokens: int) -> TrainingFile:
    """So many rows with so many tokens in all; the content does not matter to an estimate."""
    return TrainingFile(b"", "0" * 64, row_count=count, token_count=tokens, char_count=4 * tokens)
