"""Does a run learn anything? Asked before it is paid for, where the base model's tokenizer is here."""

from __future__ import annotations

import asyncio

from functions.context import Services
from shared.config import Settings
from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.bases import tokenizer_directory
from shared.datasets.dataset_xray import until_it_teaches
from shared.datasets.xray import Totals
from shared.errors import InvalidRequest
from shared.training.config import SUPERVISED
from shared.training.files import TrainingFile
from shared.training.spec import RunSpec


async def require_something_to_learn(
    services: Services, spec: RunSpec, file: TrainingFile, seen: Totals | None
) -> None:
    """Raises InvalidRequest when no row of the file trains anything, or the run would stop at one.

    seen: what the X-ray found in all rows; None: rows are looked at here, up to the first that teaches.
    """
    if spec.method not in SUPERVISED:
        return
    found = seen or await asyncio.to_thread(_looked_at, services.settings, spec, file)
    if found is None or found.refusal is None:
        return
    is_stopped = found.refused_rows > 0
    why = "The run would stop at a row that its trainer refuses." if is_stopped else found.refusal
    raise InvalidRequest(
        f"{why} validate-dataset with this baseModel names the rows; edit them, raise maxLength, or take"
        " another base model.",
        code="rows_refused" if is_stopped else "trains_nothing",
        details={"baseModel": spec.base_model, "maxLength": spec.config.max_length},
    )


def _looked_at(settings: Settings, spec: RunSpec, file: TrainingFile) -> Totals | None:
    assert spec.config.max_length is not None  # resolved, where our trainer runs
    try:
        directory = tokenizer_directory(
            spec.root_base_model, data_dir=settings.data_dir, model_dirs=settings.base_model_dirs
        )
        tokenizer = BaseTokenizer(directory)
    except InvalidRequest:
        return None  # nobody here can know; the trainer will
    with tokenizer:
        return until_it_teaches(file.content, tokenizer, spec.config.max_length)
