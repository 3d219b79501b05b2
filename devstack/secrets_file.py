"""The secrets of one local stack: made at its first start, kept in its data directory."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer


def _secret() -> SecretStr:
    return SecretStr(secrets.token_urlsafe(48))


class Secrets(BaseModel):
    """All random; none is shared by two data directories."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    publishable_key: str = Field(default_factory=lambda: f"sb_publishable_{secrets.token_urlsafe(24)}")
    secret_key: SecretStr = Field(default_factory=lambda: SecretStr(f"sb_secret_{secrets.token_urlsafe(24)}"))
    jwt_secret: SecretStr = Field(default_factory=_secret)
    database_password: SecretStr = Field(default_factory=_secret)
    api_key_encryption_secret: SecretStr = Field(default_factory=_secret)
    function_secret: SecretStr = Field(default_factory=_secret)
    inference_token: SecretStr = Field(default_factory=_secret)

    @field_serializer(
        "secret_key",
        "jwt_secret",
        "database_password",
        "api_key_encryption_secret",
        "function_secret",
        "inference_token",
        when_used="json",
    )
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


def load_secrets(data_dir: Path) -> Secrets:
    """The secrets of this data directory, which only its owner can read. Raises ValueError when the file
    is damaged.
    """
    file = data_dir / "secrets.json"
    found = file.read_text() if file.exists() else "{}"
    loaded = Secrets.model_validate_json(found)
    kept = loaded.model_dump_json(indent=2)
    if kept != found:  # a new file, or one from before a secret was added
        write_private(file, kept)
    return loaded


def write_private(file: Path, text: str) -> None:
    """The file holds this text, all of it or not at all, and only its owner can read it."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(file)
