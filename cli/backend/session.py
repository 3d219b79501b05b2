"""The saved login: a file that only its owner can read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from cli.backend.connection import data_dir


@dataclass(frozen=True)
class SavedSession:
    """Tokens of one user at one address."""

    url: str
    email: str
    access_token: SecretStr
    refresh_token: SecretStr


def session_path(environ: Mapping[str, str] = os.environ) -> Path:
    return data_dir(environ) / "session.json"


def save_session(session: SavedSession, environ: Mapping[str, str] = os.environ) -> None:
    """The session is on disk with mode 0600; a reader sees the old file or the new one, never half of it."""
    path = session_path(environ)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"session.{os.getpid()}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(
            {
                "url": session.url,
                "email": session.email,
                "access_token": session.access_token.get_secret_value(),
                "refresh_token": session.refresh_token.get_secret_value(),
            },
            file,
        )
    draft.replace(path)


def load_session(url: str, environ: Mapping[str, str] = os.environ) -> SavedSession | None:
    """The saved session for this address; None when there is none or it cannot be read."""
    try:
        saved = json.loads(session_path(environ).read_text())
        session = SavedSession(
            saved["url"],
            saved["email"],
            SecretStr(saved["access_token"]),
            SecretStr(saved["refresh_token"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return session if session.url == url else None


def forget_session(environ: Mapping[str, str] = os.environ) -> None:
    session_path(environ).unlink(missing_ok=True)
