"""Settings of the machine that trains and serves, read once from the environment."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class MachineSettings(BaseSettings):
    """What the parent process sets."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    data_dir: Path = Field(
        default=Path(".fineflow"),
        validation_alias="FINEFLOW_DATA_DIR",
        description="Holds runs, bases and models. The inference server reads no weights outside it.",
    )
    inference_token: SecretStr | None = Field(
        default=None,
        validation_alias="FINEFLOW_INFERENCE_TOKEN",
        description="What callers of the inference server present.",
    )
    serve_gpu: str = Field(
        default="L40S",
        validation_alias="FINEFLOW_SERVE_GPU",
        description="On which GPU of Modal a model answers; read when the app is deployed.",
    )


@lru_cache(maxsize=1)
def machine() -> MachineSettings:
    """The settings of this process."""
    return MachineSettings()
