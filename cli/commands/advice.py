"""`fineflow advise`: what to train on a dataset, how, and where. Nothing is started."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from cli.backend.client import open_client
from cli.backend.lookup import Project, project_id
from cli.command import command
from cli.commands.datasets import DatasetName, find_dataset
from cli.commands.models import base_model_of
from cli.commands.templates import save_template
from cli.commands.training import BaseModel, Settings, training_config
from cli.exits import CliError, ExitCode
from cli.screen.advice import advice_view
from cli.screen.output import Result, notes

root = typer.Typer()
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@command(root, "advise")
async def advise(
    dataset: DatasetName,
    base_model: BaseModel = None,
    method: Annotated[
        Literal["full", "lora", "qlora", "dpo", "orpo", "kto", "embedding"] | None,
        typer.Option(help="Default: chosen for the rows."),
    ] = None,
    goal: Annotated[
        Literal["answers", "search"], typer.Option(help="search: an embedding model that finds texts.")
    ] = "answers",
    budget: Annotated[float | None, typer.Option(min=0.01, metavar="USD", help="What it may cost.")] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it must have ended: 90m, 2h, 1d. Default: 6h.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only there. Default: the cheapest place.")] = None,
    settings: Settings = None,
    save: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep the advice as a template of the project.")
    ] = None,
    project: Project = None,
) -> Result:
    """Method, base model, settings and the cheapest place, each with its reason. Starts nothing."""
    async with open_client() as client:
        row = await find_dataset(client, dataset, project)
        wanted = {
            "baseModel": await base_model_of(client, base_model, project),
            "method": method,
            "budgetUsd": budget,
            "deadlineSeconds": _seconds(deadline) if deadline else None,
            "provider": provider,
            "goal": goal,
            "trainingConfig": training_config(None, None, None, settings),
        }
        request = {name: value for name, value in wanted.items() if value is not None}
        answer = await client.invoke("estimate-training", {"datasetId": row["id"], "advise": True, **request})
        if save is not None:
            about = f"Advised for {row['name']}: {answer['exampleCount']:,} rows."
            values = {"name": save, "description": about, **answer["advice"]["template"]}
            await save_template(client, await project_id(client, project), values)
            notes().print(f"Saved as the template {save}.", markup=False)
    return Result(answer, advice_view(answer, row["name"], save))


def _seconds(said: str) -> int:
    """The seconds of 90m, 2h or 1d. Raises CliError for anything else."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", said.strip())
    if not parts:
        raise CliError(f"--deadline takes a time such as 90m or 2h, not {said!r}.", exit_code=ExitCode.USAGE)
    return round(float(parts[1]) * _UNITS[parts[2]])
