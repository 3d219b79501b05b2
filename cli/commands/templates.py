"""`fineflow templates`: named settings for training, built in and a project's own."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project, not_found, project_id
from cli.command import command
from cli.commands.models import base_model_of
from cli.commands.training import Method, Settings, training_config
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, facts, table
from shared.training.config import TrainingConfig

app = typer.Typer(no_args_is_help=True, help="Named settings for training.")

TemplateName = Annotated[str, typer.Argument(metavar="NAME")]


@command(app, "list")
async def list_templates(project: Project = None) -> Result:
    """The built-in templates, and those of a project."""
    async with open_client() as client:
        rows = await _templates(client, await project_id(client, project))
    shown = (
        (row["name"], row["method"], _said(row["training_config"]), _whose(row), row["description"])
        for row in rows
    )
    columns = ("template", "method", "settings", "whose", "what it is for")
    return Result(rows, table(columns, shown, empty="No templates."))


@command(app, "show")
async def show(name: TemplateName, project: Project = None) -> Result:
    """One template: what it sets. What it does not set stays automatic."""
    async with open_client() as client:
        row = await _find(client, name, await project_id(client, project))
    pairs = [(key.replace("_", " "), row[key]) for key in ("name", "description", "method", "base_model")]
    settings = [(key, json.dumps(value)) for key, value in row["training_config"].items()]
    return Result(row, facts([*pairs, *settings, ("whose", _whose(row))]))


@command(app, "save")
async def save(
    name: TemplateName,
    method: Method = "lora",
    base_model: Annotated[str | None, typer.Option("--base-model", "-m", help="Default: left open.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    settings: Settings = None,
    project: Project = None,
) -> Result:
    """A template of the project, new or in place of the one with this name."""
    config = _checked(training_config(None, None, None, settings))
    async with open_client() as client:
        values = {
            "name": name,
            "method": method,
            "base_model": await base_model_of(client, base_model, project),
            "description": description,
            "training_config": config,
        }
        saved = await save_template(client, await project_id(client, project), values)
    return Result(saved, f"Saved. Take it with `fineflow train DATASET --template {name}`.")


@command(app, "delete")
async def delete(name: TemplateName, project: Project = None) -> Result:
    """A template of the project is gone. Jobs that were started with it keep their settings."""
    async with open_client() as client:
        row = await _find(client, name, await project_id(client, project))
        if row["project_id"] is None:
            raise CliError(f"{name} is built in and stays.", exit_code=ExitCode.FORBIDDEN)
        deleted = await client.rows(client.supabase.table("training_templates").delete().eq("id", row["id"]))
        if not deleted:
            raise CliError("Only editors of the project delete templates.", exit_code=ExitCode.FORBIDDEN)
    return Result(deleted[0], f"Deleted {name}.")


async def save_template(client: Client, project: str, values: Row) -> Row:
    """The template of the project with this name, new or in place of the one before."""
    rows = client.supabase.table("training_templates")
    query = rows.update(values).eq("project_id", project).eq("name", values["name"])
    saved = await client.rows(query) or await client.rows(rows.insert(values | {"project_id": project}))
    return saved[0]


async def _templates(client: Client, project: str) -> list[Row]:
    query = client.supabase.table("training_templates").select("*")
    query = query.or_(f"project_id.is.null,project_id.eq.{project}")
    rows = await client.rows(query.order("project_id", nullsfirst=True).order("created_at").order("name"))
    return rows


async def _find(client: Client, name: str, project: str) -> Row:
    """The project's own before a built-in one."""
    rows = [row for row in await _templates(client, project) if name in (row["name"], row["id"])]
    if not rows:
        raise not_found(f"There is no template {name!r}.", "See `fineflow templates list`.")
    return rows[-1]


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    """The settings by their names in rows. Raises CliError for one that no training can have."""
    try:
        checked = TrainingConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CliError(f"{where}: {first['msg']}", exit_code=ExitCode.USAGE) from None
    return checked.model_dump(mode="json", exclude_unset=True)


def _said(config: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in config.items()) or "automatic"


def _whose(row: Row) -> str:
    return "built in" if row["project_id"] is None else "the project's"
