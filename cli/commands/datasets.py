"""`fineflow datasets`: pairs made from documents, shown and checked."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from cli.backend.client import Client, Row, open_client
from cli.backend.live import follow
from cli.backend.lookup import Project, find, newest, project_id
from cli.command import command
from cli.commands.models import base_model_of
from cli.exits import ExitCode
from cli.screen.bars import dataset_bar
from cli.screen.datasets import dataset_facts, datasets_table, validation_view
from cli.screen.output import Result

app = typer.Typer(no_args_is_help=True, help="Datasets of question and answer pairs.")

DatasetName = Annotated[str, typer.Argument(metavar="DATASET", help="Name, id, or the beginning of an id.")]
PREVIEW_PAIRS = 5


@command(app, "list")
async def list_datasets(project: Project = None) -> Result:
    """The datasets of a project, newest first."""
    async with open_client() as client:
        datasets = await newest(client, "training_datasets", await project_id(client, project))
    return Result(datasets, datasets_table(datasets))


@command(app, "show")
async def show(dataset: DatasetName, project: Project = None) -> Result:
    """A dataset and its first pairs."""
    async with open_client() as client:
        row = await find_dataset(client, dataset, project)
        pairs = await valid_pairs(client, str(row["id"]), limit=PREVIEW_PAIRS)
    return Result({**row, "pairs": pairs}, dataset_facts(row, pairs))


@command(app, "validate")
async def validate(
    dataset: DatasetName,
    base_model: Annotated[
        str | None, typer.Option("--base-model", "-m", help="Also what a run on this one would learn.")
    ] = None,
    project: Project = None,
) -> Result:
    """Check a dataset before training on it. Exit code 1 when it is not valid."""
    async with open_client() as client:
        row = await find_dataset(client, dataset, project)
        base = await base_model_of(client, base_model, project)
        report = await client.invoke("validate-dataset", _given(datasetId=row["id"], baseModel=base))
    return Result(report, validation_view(report), ExitCode.OK if report["valid"] else ExitCode.FAILED)


async def find_dataset(client: Client, reference: str, project: str | None) -> Row:
    """The dataset that `reference` names. Raises CliError when there is none."""
    return await find(
        client, "training_datasets", await project_id(client, project), reference, thing="dataset"
    )


async def start_generation(client: Client, request: dict[str, Any]) -> str:
    """The id of a new dataset whose pairs are being made; fields of None are left to the server."""
    answer = await client.invoke("generate-dataset", _given(**request))
    return str(answer["datasetId"])


async def valid_pairs(client: Client, dataset_id: str, *, limit: int = 1000) -> list[Row]:
    """Pairs that would be trained on, in the order of the text they came from."""
    query = client.supabase.table("training_pairs").select("*")
    query = query.eq("dataset_id", dataset_id).eq("is_valid", True)
    return await client.rows(query.order("created_at").order("chunk_id").order("ordinal").limit(limit))


async def generated(client: Client, dataset_id: str, console: Console) -> Row:
    """The dataset when generation has ended, well or badly, with a bar on `console` meanwhile."""
    with dataset_bar(console) as bar:
        return await follow(
            client,
            "training_datasets",
            dataset_id,
            until=lambda row: row["status"] not in ("draft", "generating"),
            on_update=lambda update: bar.update(update.row),
        )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
