"""The front door: Supabase Lite in Node, behind which the whole stack is one origin."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from devstack.node_tools import NODE_DIR, node_binary
from devstack.processes import Command
from devstack.secrets_file import Secrets

BOOTSTRAP = Path(__file__).with_name("bootstrap.sql")
# What Lite takes over from supabase/config.toml. It refuses keys that it does not know, and the hosted CLI
# warns about Lite's own, so the file stays the CLI's and Lite gets these in its environment.
SHARED_SETTINGS = {
    "api": ["schemas", "extra_search_path", "max_rows"],
    "auth": [
        "enabled",
        "site_url",
        "additional_redirect_urls",
        "jwt_expiry",
        "enable_refresh_token_rotation",
        "refresh_token_reuse_interval",
        "enable_signup",
        "enable_anonymous_sign_ins",
        "minimum_password_length",
    ],
    "storage": ["enabled", "file_size_limit"],
}
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


async def bootstrap(database_url: SecretStr) -> None:
    """The database has the roles, schemas and grants of a hosted project. Raises psycopg.Error."""
    connection = await psycopg.AsyncConnection.connect(
        database_url.get_secret_value(), autocommit=True, connect_timeout=5
    )
    async with connection:
        await connection.execute(BOOTSTRAP.read_bytes())


def front_door_command(
    *,
    project: Path,
    data_dir: Path,
    database_url: SecretStr,
    secrets: Secrets,
    listen_fd: int,
    functions_port: int,
    realtime_port: int,
) -> Command:
    """Node, serving on the inherited socket `listen_fd` once all migrations of `project` are applied."""
    config = tomllib.loads((project / "supabase" / "config.toml").read_text())
    lite = lite_settings(config)
    return Command(
        name="front_door",
        argv=(str(node_binary()), "--disable-warning=ExperimentalWarning", str(NODE_DIR / "server.mjs")),
        cwd=project,  # Lite looks for ./supabase/migrations
        log=data_dir / "logs" / "front_door.log",
        pass_fds=(listen_fd,),
        env={
            "PATH": "/usr/bin:/bin",
            "NODE_ENV": "production",
            "EXPERIMENTAL_STORAGE": "1",
            "DO_NOT_TRACK": "1",
            "LITE_TELEMETRY": "0",
            "SUPABASE_PUBLISHABLE_KEY": secrets.publishable_key,
            "SUPABASE_SECRET_KEY": secrets.secret_key.get_secret_value(),
            "SUPABASE_JWT_SECRET": secrets.jwt_secret.get_secret_value(),
            "FINEFLOW_LITE_SETTINGS": json.dumps(lite),
            "FINEFLOW_UPLOAD_LIMIT_BYTES": str(byte_count(lite["storage"]["file_size_limit"])),
            "FINEFLOW_DATABASE_URL": database_url.get_secret_value(),
            "FINEFLOW_STORAGE_DIR": str(data_dir / "storage"),
            "FINEFLOW_LISTEN_FD": str(listen_fd),
            "FINEFLOW_FUNCTIONS_PORT": str(functions_port),
            "FINEFLOW_REALTIME_PORT": str(realtime_port),
        },
    )


def lite_settings(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The part of supabase/config.toml that Lite follows, in Lite's own words."""
    return {
        section: {key: config[section][key] for key in keys if key in config.get(section, {})}
        for section, keys in SHARED_SETTINGS.items()
    }


def byte_count(size: str) -> int:
    """`"100MiB"` -> 104857600. Raises ValueError for anything else than a number and a unit."""
    match = re.fullmatch(r"(\d+)\s*([KMG]?i?B)", size, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{size!r} is no file size; write for example 100MiB")
    return int(match[1]) * UNITS[match[2].upper()]
