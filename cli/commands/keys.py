"""`fineflow keys`: provider keys. A key is read without being shown, sent once, and never comes back."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Literal

import typer
from pydantic import SecretStr
from rich.console import RenderableType

from cli.backend.client import Row, open_client
from cli.command import command
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, moment, table

app = typer.Typer(no_args_is_help=True, help="Provider keys: set, see which are set, delete.")

Provider = Annotated[
    Literal["openai", "anthropic", "gemini", "huggingface", "together", "modal", "openai_compatible"],
    typer.Argument(metavar="PROVIDER", help="openai, gemini, huggingface, ..."),
]


@command(app, "set")
async def set_key(
    provider: Provider,
    base_url: Annotated[str | None, typer.Option(help="For openai_compatible: where it answers.")] = None,
) -> Result:
    """Store a key, read from a hidden prompt or from standard input."""
    key = read_secret(f"{provider} key: ")
    request = {"action": "set", "provider": provider, "apiKey": key.get_secret_value()}
    async with open_client() as client:
        answer = await client.invoke("manage-api-keys", request | ({"baseUrl": base_url} if base_url else {}))
    return Result(answer, _table(answer))


@command(app, "status")
async def status() -> Result:
    """Which keys are set, by their last four characters."""
    async with open_client() as client:
        answer = await client.invoke("manage-api-keys", {"action": "status"})
    return Result(answer, _table(answer))


@command(app, "delete")
async def delete(provider: Provider) -> Result:
    """Forget a key."""
    async with open_client() as client:
        answer = await client.invoke("manage-api-keys", {"action": "delete", "provider": provider})
    return Result(answer, _table(answer))


def read_secret(prompt: str) -> SecretStr:
    """A secret from a hidden prompt, or the first line of standard input. Raises CliError when it is empty.

    Never from the arguments: those are seen by every process and kept in the shell's history.
    """
    secret = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()
    if not secret.strip():
        raise CliError("Nothing was entered.", exit_code=ExitCode.USAGE)
    return SecretStr(secret.strip())


def _table(answer: Row) -> RenderableType:
    return table(
        ("provider", "set", "ends in", "checked"),
        (
            (key["provider"], "yes" if key["set"] else "no", key["lastFour"], moment(key["validatedAt"]))
            for key in answer["keys"]
        ),
        empty="No provider takes a key.",
    )
