"""`fineflow keys`: provider keys. A key is read without being shown, sent once, and never comes back."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Literal

import typer
from pydantic import SecretStr
from rich.console import Group, RenderableType
from rich.text import Text

from cli.backend.client import Row, open_client
from cli.command import command
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, facts, moment, table

app = typer.Typer(no_args_is_help=True, help="Provider keys: set, see which are set, check, delete.")

Provider = Annotated[
    Literal["openai", "anthropic", "gemini", "huggingface", "together", "openai_compatible"],
    typer.Argument(metavar="PROVIDER", help="openai, gemini, huggingface, ..."),
]


@command(app, "set")
async def set_key(
    provider: Provider,
    base_url: Annotated[
        str | None, typer.Option(help="Where the service answers; needed for openai_compatible.")
    ] = None,
    check: Annotated[
        bool, typer.Option(help="Ask the provider first; a key that it refuses is not stored.")
    ] = True,
) -> Result:
    """Store a key, read from a hidden prompt or from standard input."""
    key = read_secret(f"{provider} key: ")
    request = {"action": "set", "provider": provider, "apiKey": key.get_secret_value(), "validate": check}
    answer = await _manage(request | ({"baseUrl": base_url} if base_url else {}))
    return Result(answer, _table(answer))


@command(app, "status")
async def status() -> Result:
    """Which keys are set, by their last four characters."""
    answer = await _manage({"action": "status"})
    return Result(answer, _table(answer))


@command(app, "validate")
async def validate(provider: Provider) -> Result:
    """Ask the provider whether it still takes the stored key, whose it is and what it may do."""
    answer = await _manage({"action": "validate", "provider": provider})
    key = next(key for key in answer["keys"] if key["provider"] == provider)
    shown = facts(
        (
            ("provider", provider),
            ("ends in", key["lastFour"]),
            ("works", "no" if key["invalidAt"] else "yes"),
            ("reason", key["invalidReason"]),
            ("account", key["account"]),
            ("permissions", ", ".join(key["permissions"]) or None),
            ("checked", moment(key["validatedAt"] or key["invalidAt"])),
        )
    )
    return Result(answer, shown, ExitCode.FAILED if key["invalidAt"] else ExitCode.OK)


@command(app, "delete")
async def delete(provider: Provider) -> Result:
    """Forget a key. Jobs that still need it wait until it is set again."""
    answer = await _manage({"action": "delete", "provider": provider})
    waiting = answer["waitingJobs"]
    if not waiting:
        return Result(answer, _table(answer))
    said = f"{len(waiting)} unfinished job(s) wait until the key is set again: {', '.join(waiting)}"
    return Result(answer, Group(_table(answer), Text(said)))


def read_secret(prompt: str) -> SecretStr:
    """A secret from a hidden prompt, or the first line of standard input. Raises CliError when it is empty.

    Never from the arguments: those are seen by every process and kept in the shell's history.
    """
    secret = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline()
    if not secret.strip():
        raise CliError("Nothing was entered.", exit_code=ExitCode.USAGE)
    return SecretStr(secret.strip())


async def _manage(request: Row) -> Row:
    async with open_client() as client:
        answer: Row = await client.invoke("manage-api-keys", request)
    return answer


def _table(answer: Row) -> RenderableType:
    return table(
        ("provider", "set", "ends in", "account", "checked", "refused"),
        (
            (
                key["provider"],
                "yes" if key["set"] else "no",
                key["lastFour"],
                key["account"],
                moment(key["validatedAt"]),
                moment(key["invalidAt"]),
            )
            for key in answer["keys"]
        ),
        empty="No provider takes a key.",
    )
