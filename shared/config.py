"""Settings, read once from the environment. Nothing else in the code reads it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Settings(BaseSettings):
    """What a deployment may set; the field name in capitals is the variable, unless an alias is given."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,  # a secret that is too short is a secret all the same
    )

    supabase_url: str = Field(description="Base address of the project, without a path.")
    supabase_publishable_key: str = Field(
        validation_alias=AliasChoices("SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY")
    )
    supabase_secret_key: SecretStr = Field(
        validation_alias=AliasChoices("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")
    )
    supabase_jwt_secret: SecretStr | None = Field(
        default=None,
        description="HS256 secret of the local stack. None: user tokens are verified by JWKS only.",
    )
    api_key_encryption_secret: SecretStr = Field(
        min_length=32, description="Seals provider keys and signs the tokens of trainers."
    )
    api_key_encryption_secrets_old: Annotated[
        tuple[Annotated[SecretStr, Field(min_length=32)], ...], NoDecode
    ] = Field(
        default=(),
        description="Also open and verify, and never seal: for a change of the secret above (docs/keys.md). "
        "Separated by commas.",
    )
    function_secret: SecretStr = Field(
        min_length=16,
        validation_alias="FINEFLOW_FUNCTION_SECRET",
        description="What row events and schedules present. Opens nothing but functions.",
    )
    data_dir: Path = Field(
        default=Path(".fineflow"),
        validation_alias="FINEFLOW_DATA_DIR",
        description="Runs and models of the local provider.",
    )
    base_model_dirs: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        validation_alias="FINEFLOW_BASE_MODEL_DIRS",
        description="Where users may point at the tokenizer of a base model. Separated by commas.",
    )
    inference_url: str | None = Field(default=None, validation_alias="FINEFLOW_INFERENCE_URL")
    inference_token: SecretStr | None = Field(default=None, validation_alias="FINEFLOW_INFERENCE_TOKEN")
    inference_timeout_seconds: float = Field(
        default=120, validation_alias="FINEFLOW_INFERENCE_TIMEOUT_SECONDS"
    )

    allow_private_addresses: bool = Field(
        default=False,
        validation_alias="FINEFLOW_ALLOW_PRIVATE_ADDRESSES",
        description="Base addresses that users set may lie on this machine or its network.",
    )
    provider_late_seconds: float = Field(
        default=180,
        ge=0,
        validation_alias="FINEFLOW_PROVIDER_LATE_SECONDS",
        description="How long after a start was given up its run may still appear in a vendor's list.",
    )
    model_storage_limit_bytes: int = Field(
        default=20 * 2**30,
        ge=1,
        validation_alias="FINEFLOW_MODEL_STORAGE_LIMIT_BYTES",
        description="The largest model that goes to Storage: from where the trainer's disk does not last.",
    )
    model_cache_bytes: int = Field(
        default=50 * 2**30,
        ge=0,
        validation_alias="FINEFLOW_MODEL_CACHE_BYTES",
        description="Of models from Storage that are kept here because they were asked.",
    )
    modal_token_id: SecretStr | None = None
    modal_token_secret: SecretStr | None = None
    modal_environment: str | None = None
    huggingface_image: str | None = Field(
        default=None,
        validation_alias="FINEFLOW_HUGGINGFACE_IMAGE",
        description="What Hugging Face Jobs runs: an image that holds modal_app. None: not offered.",
    )
    gemini_api_key: SecretStr | None = None
    gemini_base_url: str | None = None
    gemini_model: str = "gemini-3.8-flash"
    anthropic_api_key: SecretStr | None = None
    anthropic_base_url: str | None = None
    anthropic_model: str = "claude-haiku-5-5"
    openai_compatible_base_url: str | None = None
    openai_compatible_api_key: SecretStr | None = None
    openai_compatible_model: str | None = None

    chunk_tokens: int = Field(
        default=256,
        ge=64,
        le=2048,
        validation_alias="FINEFLOW_CHUNK_TOKENS",
        description="The most that a chunk holds, for documents processed from now on.",
    )
    near_duplicate_similarity: float = Field(
        default=0.8,
        ge=0.7,
        le=1,
        validation_alias="FINEFLOW_NEAR_DUPLICATE_SIMILARITY",
        description="A chunk so alike to an earlier one of its project is its duplicate: Jaccard of their "
        "three-word shingles. For documents processed from now on.",
    )
    request_body_limit_bytes: int = Field(
        default=1_048_576, validation_alias="FINEFLOW_REQUEST_BODY_LIMIT_BYTES"
    )
    rate_limit_per_minute: int = Field(default=100, ge=1, validation_alias="FINEFLOW_RATE_LIMIT_PER_MINUTE")

    @field_validator("api_key_encryption_secrets_old", "base_model_dirs", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @property
    def encryption_secrets(self) -> tuple[SecretStr, ...]:
        """Every master secret that is known here, the one that seals first."""
        return (self.api_key_encryption_secret, *self.api_key_encryption_secrets_old)

    @property
    def reaches_private_addresses(self) -> bool:
        """Whether an address that a user chose may be private: allowed above, or this is somebody's own
        machine, where a model on localhost is what they mean."""
        return self.allow_private_addresses or urlsplit(self.supabase_url).hostname in _LOOPBACK

    @property
    def infers_here(self) -> bool:
        """Whether the inference server is on this machine, with the same data directory."""
        return self.inference_url is not None and urlsplit(self.inference_url).hostname in _LOOPBACK

    @property
    def functions_url(self) -> str:
        """Where functions answer, as clients and trainers call them."""
        return f"{self.supabase_url.rstrip('/')}/functions/v1"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process. Raises pydantic's ValidationError naming what is missing."""
    return Settings()
