"""What this server knows of runs like the one that is asked about."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from functions.context import Context
from shared.datasets.base_shape import base_shape
from shared.training.config import Method
from shared.training.shapes import ModelShape
from shared.training.sizing.gpu_run import Known


@dataclass(frozen=True)
class KnownRuns:
    """The shape of a base model."""

    base_model: str | None
    shape: ModelShape | None

    @classmethod
    async def load(cls, base_model: str | None, context: Context) -> KnownRuns:
        """For this base model; None: for those of the catalogue."""
        if base_model is None:
            return cls(None, None)
        dirs = context.settings.base_model_dirs
        return cls(base_model, await asyncio.to_thread(base_shape, base_model, model_dirs=dirs))

    def of(self, place: str, base_model: str, method: Method) -> Known:
        """What is known of a run of this method there."""
        return Known(shape=self.shape if base_model == self.base_model else None)
