"""Where the stack is and who logs in: from the environment, else from the stack that runs here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cli.backend.failures import unreachable
from cli.exits import CliError, ExitCode

PROJECT_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Login:
    """An address and its password."""

    email: str
    password: SecretStr


@dataclass(frozen=True)
class Connection:
    """How to reach a stack. `login` is what the environment or the local stack offers; None: neither does."""

    url: str
    publishable_key: str
    login: Login | None = None
    login_is_explicit: bool = False  # the user set it, so a saved session of somebody else gives way


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """FINEFLOW_DATA_DIR, else `.fineflow` beside the code."""
    configured = environ.get("FINEFLOW_DATA_DIR")
    return Path(configured).absolute() if configured else PROJECT_ROOT / ".fineflow"


def find_connection(environ: Mapping[str, str] = os.environ) -> Connection:
    """The stack that commands talk to. Raises CliError when the settings are incomplete or no stack runs."""
    url = environ.get("FINEFLOW_URL") or environ.get("SUPABASE_URL")
    key = environ.get("FINEFLOW_PUBLISHABLE_KEY") or environ.get("SUPABASE_PUBLISHABLE_KEY")
    explicit = _login_from(environ)
    if url and key:
        return Connection(url.rstrip("/"), key, explicit, explicit is not None)
    if url or key:
        missing = "FINEFLOW_PUBLISHABLE_KEY" if url else "FINEFLOW_URL"
        raise CliError(f"{missing} is not set.", hint="Set both or neither.", exit_code=ExitCode.USAGE)
    stack = running_stack(data_dir(environ))
    if stack is None:
        raise unreachable("No stack is running here.")
    return connection_to(stack, explicit)


def connection_to(stack: Mapping[str, Any], explicit: Login | None = None) -> Connection:
    """The connection that a `stack.json` describes, with its demo login unless the user gave one."""
    demo = Login(stack["demo_email"], SecretStr(stack["demo_password"]))
    return Connection(stack["url"], stack["publishable_key"], explicit or demo, explicit is not None)


def running_stack(directory: Path) -> dict[str, Any] | None:
    """The `stack.json` of a live stack on this data directory; None when none runs."""
    try:
        stack: dict[str, Any] = json.loads((directory / "stack.json").read_text())
        os.kill(int(stack["pid"]), 0)
    except PermissionError:
        return stack  # alive, and somebody else's
    except (OSError, ValueError, KeyError):
        return None
    return stack


def _login_from(environ: Mapping[str, str]) -> Login | None:
    email, password = environ.get("FINEFLOW_EMAIL"), environ.get("FINEFLOW_PASSWORD")
    if email and password:
        return Login(email, SecretStr(password))
    if email or password:
        missing = "FINEFLOW_PASSWORD" if email else "FINEFLOW_EMAIL"
        raise CliError(f"{missing} is not set.", hint="Set both or neither.", exit_code=ExitCode.USAGE)
    return None
