"""What this server knows of runs like the one that is asked about: the base model's own config.json, and how
well earlier runs were estimated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from functions.context import Context
from shared.datasets.base_shape import base_shape
from shared.db import Row
from shared.training import catalog
from shared.training.config import Method
from shared.training.shapes import ModelShape
from shared.training.sizing.calibration import MOST_RUNS, Calibration, Observation, size_class
from shared.training.sizing.gpu_run import Known

_Key = tuple[str, str, str, int]  # provider, GPU, method, size class


@dataclass(frozen=True)
class KnownRuns:
    """The shape of a base model, and the calibrations that hold for a project."""

    base_model: str | None
    shape: ModelShape | None
    calibrations: Mapping[_Key, Calibration]

    @classmethod
    async def load(cls, base_model: str | None, project_id: str, context: Context) -> KnownRuns:
        """For this base model; None: for those of the catalogue."""
        rows: list[Row] = await context.service_db.call(
            "past_estimates", project_id=project_id, runs=MOST_RUNS
        )
        shape = None
        if base_model is not None:
            dirs = context.settings.base_model_dirs
            shape = await asyncio.to_thread(base_shape, base_model, model_dirs=dirs)
        return cls(base_model, shape, dict(map(_calibration, rows)))

    def of(self, place: str, base_model: str, method: Method) -> Known:
        """What is known of a run of this method there."""
        own = self.shape if base_model == self.base_model else None
        shape = own or catalog.shape(base_model)
        if shape is None:
            return Known()
        size = size_class(shape.parameters)
        return Known(
            own, calibrations=lambda gpu: self.calibrations.get((place, gpu, method, size), Calibration())
        )


def _calibration(row: Row) -> tuple[_Key, Calibration]:
    runs = [Observation(run["duration_ratio"], run["memory_ratio"]) for run in row["runs"]]
    return (row["provider"], row["gpu"], row["method"], row["size_class"]), Calibration.of(runs)
