"""`fineflow prompts`: how a project asks models for pairs, in words of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project, not_found, project_id
from cli.command import command
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, moment, table
from shared.errors import InvalidRequest
from shared.generation.prompt_set import PROMPTS, check_prompt, default_prompt

app = typer.Typer(no_args_is_help=True, help="The prompts that models are asked with, project by project.")

PromptName = Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(PROMPTS)}.")]


@command(app, "list")
async def list_prompts(project: Project = None) -> Result:
    """Every prompt, whose it is, and the variables that it is filled with."""
    async with open_client() as client:
        own = {row["name"]: row for row in await _own(client, await project_id(client, project))}
    rows: list[Row] = [
        {
            "name": name,
            "own": name in own,
            "needed": [f"${variable}" for variable in sorted(variables.needed)],
            "allowed": [f"${variable}" for variable in sorted(variables.allowed)],
            "updated_at": own.get(name, {}).get("updated_at"),
        }
        for name, variables in PROMPTS.items()
    ]
    lines = table(
        ("name", "whose", "holds", "may hold", "changed"),
        (
            (
                row["name"],
                "yours" if row["own"] else "built in",
                " ".join(row["needed"]),
                " ".join(row["allowed"]),
                moment(row["updated_at"]),
            )
            for row in rows
        ),
        empty="",
    )
    return Result(rows, lines)


@command(app, "show")
async def show(
    name: PromptName,
    default: Annotated[bool, typer.Option("--default", help="The built-in one.")] = False,
    project: Project = None,
) -> Result:
    """A prompt as models are asked with it."""
    _require_known(name)
    async with open_client() as client:
        found = [row for row in await _own(client, await project_id(client, project)) if row["name"] == name]
    content = str(found[0]["content"]) if found and not default else default_prompt(name)
    return Result(
        {"name": name, "own": bool(found) and not default, "content": content}, content.rstrip("\n")
    )


@command(app, "set")
async def set_prompt(
    name: PromptName,
    file: Annotated[Path, typer.Argument(help="A file; - for standard input.", allow_dash=True)],
    project: Project = None,
) -> Result:
    """Put a text of yours in the place of a prompt. It is checked first."""
    _require_known(name)
    content = _read(file)
    try:
        check_prompt(name, content)
    except InvalidRequest as refused:
        raise CliError(refused.message, code=refused.code, exit_code=ExitCode.USAGE) from None
    async with open_client() as client:
        target = await project_id(client, project)
        prompts = client.supabase.table("project_prompts")
        row = {"project_id": target, "name": name, "content": content}
        changed = await client.rows(
            prompts.update({"content": content}).eq("project_id", target).eq("name", name)
        )
        saved = changed or await client.rows(prompts.insert(row))
    return Result(saved[0], f"The project asks with your {name} from now on.")


@command(app, "reset")
async def reset(name: PromptName, project: Project = None) -> Result:
    """Go back to the built-in prompt."""
    _require_known(name)
    async with open_client() as client:
        target = await project_id(client, project)
        query = client.supabase.table("project_prompts").delete().eq("project_id", target).eq("name", name)
        removed = await client.rows(query)
    said = f"The project asks with the built-in {name} again." if removed else f"{name} is the built-in one."
    return Result({"name": name, "removed": bool(removed)}, said)


async def _own(client: Client, project: str) -> list[Row]:
    return await client.rows(client.supabase.table("project_prompts").select("*").eq("project_id", project))


def _require_known(name: str) -> None:
    if name not in PROMPTS:
        raise not_found(f"There is no prompt {name!r}.", f"There are: {', '.join(PROMPTS)}.")


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"Cannot read {file}: {error}.", code="bad_file", exit_code=ExitCode.USAGE) from error
