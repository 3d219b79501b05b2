"""`fineflow models fetch`: a model that lies in Storage comes to this machine, proven by its sha256."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.connection import data_dir
from cli.backend.lookup import Project, project_id
from cli.command import command
from cli.commands.models import ModelName, find_model, versioned_name
from cli.exits import CliError, ExitCode
from cli.screen.bars import file_bar
from cli.screen.output import Result, notes
from shared.models.stored import StoredModel, stored

app = typer.Typer()


@command(app, "fetch")
async def fetch(
    model: ModelName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Default: NAME-VERSION.")
    ] = None,
    project: Project = None,
) -> Result:
    """Bring a model from Storage to this machine. Stopped, it goes on where it was when called again."""
    async with open_client() as client:
        row = await find_model(client, model, await project_id(client, project))
        there = stored(row["artifact_path"])
        name = versioned_name(row)
        if there is None:
            raise CliError(
                f"{name} is not in Storage: {row['artifact_path'] or 'its provider keeps the weights'}.",
                code="weights_elsewhere",
                exit_code=ExitCode.USAGE,
            )
        directory = output or Path(f"{row['name'].replace('/', '-')}-{row['version']}")
        size_bytes = await brought(client, there, directory.absolute(), name)
    return Result(
        {"directory": str(directory), "bytes": size_bytes},
        f"{name} is in {directory}: {size_bytes / 2**20:,.1f} MiB, every piece as it was sent."
        f" {directory}/artifact loads with transformers.",
    )


async def run_directory(client: Client, row: Row, model: StoredModel) -> Path:
    """The model where other commands find it: in the cache that local serving fills as well."""
    home = data_dir() / "models" / model.sha256
    if not home.is_dir():
        await brought(client, model, home, versioned_name(row))
    return home


async def brought(client: Client, model: StoredModel, directory: Path, name: str) -> int:
    """The directory holds the model now. Returns its bytes. Raises CliError, also where one is there."""
    import httpx

    from shared.errors import FineFlowError
    from shared.models.fetching import fetch as fetch_model
    from shared.models.fetching import from_storage
    from shared.storage import Storage

    _require_free(directory)
    session = await client.supabase.auth.get_session()
    assert session is not None  # open_client has logged in
    connection = client.connection
    async with httpx.AsyncClient(timeout=60) as http:
        storage = Storage(
            connection.url, api_key=connection.publishable_key, bearer=session.access_token, http=http
        )
        with file_bar(notes()) as bar:
            told = _telling(bar.update, name)
            try:
                files = await fetch_model(model, from_storage(model, storage), directory, told=told)
            except FineFlowError as error:
                raise CliError(error.message, code=error.code) from error
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise CliError(f"{directory} cannot be written: {reason}.", code="disk_error") from error
    return files.size_bytes


def _require_free(directory: Path) -> None:
    if os.path.lexists(directory):
        raise CliError(
            f"{directory} is there already. Choose another with --output.", exit_code=ExitCode.USAGE
        )


def _telling(show: Callable[[Row], None], name: str) -> Callable[[int, int], None]:
    return lambda done, total: show({"name": name, "bytes_done": done, "byte_count": total})
