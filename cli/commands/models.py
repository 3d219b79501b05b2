"""`fineflow models` and `fineflow deploy`: the registry, and the names that apps call."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project, find, newest, not_found, project_id
from cli.command import command
from cli.screen.output import Result, facts, moment, short, table

app = typer.Typer(no_args_is_help=True, help="Models that jobs made.")
root = typer.Typer()

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME (its latest version), NAME:VERSION, or an id.")
]


@command(app, "list")
async def list_models(project: Project = None) -> Result:
    """The models of a project with the names they are deployed as."""
    async with open_client() as client:
        target = await project_id(client, project)
        models = await newest(client, "fine_tuned_models", target)
        live = await newest(client, "deployments", target)
    names = {row["model_id"]: row["name"] for row in live if row["status"] == "live"}
    parents = {model["id"]: versioned_name(model) for model in models}
    rows = (
        (
            short(model["id"]),
            f"{model['name']}:{model['version']}",
            model["status"],
            names.get(model["id"]),
            parents.get(model["parent_model_id"], model["base_model"]),
            model["method"],
            moment(model["created_at"]),
        )
        for model in models
    )
    columns = ("id", "model", "status", "deployed as", "base", "method", "created")
    return Result(
        models, table(columns, rows, empty="No models yet. Train one with `fineflow train DATASET`.")
    )


@command(app, "show")
async def show(model: ModelName, project: Project = None) -> Result:
    """One model: where it came from and how it did."""
    async with open_client() as client:
        row = await find_model(client, model, await project_id(client, project))
    shown = ("id", "name", "version", "status", "base_model", "method", "provider", "job_id", "dataset_id")
    more = (
        *(("root_base_model",) if row["parent_model_id"] else ()),
        "training_examples",
        "epochs",
        "cost_usd",
        "artifact_path",
        "artifact_bytes",
        "template_fingerprint",
        "notes",
    )
    values = {**(row.get("metrics") or {}), **{name: row.get(name) for name in (*shown, *more)}}
    pairs = [(name.replace("_", " "), values[name]) for name in dict.fromkeys((*shown, *more, *values))]
    return Result(row, facts([*pairs, ("created", moment(row["created_at"]))]))


@command(app, "bases")
async def bases(
    batch_size: Annotated[int, typer.Option(min=1, max=512, help="Rows a step.")] = 8,
    max_length: Annotated[int, typer.Option(min=16, max=131_072, help="Tokens a row.")] = 1024,
) -> Result:
    """Base models that are known, and the GPU memory that each method needs. Asks no server."""
    # Imported here, so that `--help` need not read the catalogue.
    from cli.screen.bases import bases_table
    from shared.training.sizing.bases import base_memories

    rows = base_memories(batch_size=batch_size, max_length=max_length)
    return Result([row.as_json() for row in rows], bases_table(rows, batch_size, max_length))


@command(root, "deploy")
async def deploy(
    model: ModelName,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The name that apps call.")],
    notes: Annotated[str | None, typer.Option(help="Kept in the history.")] = None,
    project: Project = None,
) -> Result:
    """Let a model answer behind a name."""
    async with open_client() as client:
        row = await find_model(client, model, await project_id(client, project))
        answer = await deploy_model(client, str(row["id"]), name, notes)
    text = f"{name} now answers with {versioned_name(row)}."
    return Result(answer, f"{text} Try `fineflow chat {name} 'a question'`.")


async def deploy_model(client: Client, model_id: str, name: str, notes: str | None = None) -> Row:
    """The deployment behind `name` serves this model."""
    request = {"action": "deploy", "modelId": model_id, "deploymentName": name}
    return await client.invoke("manage-models", request | ({"notes": notes} if notes else {}))


def versioned_name(row: Row) -> str:
    """How a model is called where its versions are told apart, and as `find_model` takes it."""
    return f"{row['name']}:{row['version']}"


async def base_model_of(client: Client, wanted: str | None, project: str | None) -> str | None:
    """A base model as functions take it: NAME:VERSION, model:NAME and model:ID become the id of that model.

    No Hub id and no name of the catalogue has a colon; a path begins with a slash. None: None was wanted.
    Raises CliError where there is no such model.
    """
    from shared.training.spec import OF_THE_PROJECT

    if wanted is None or ":" not in wanted or wanted.startswith("/"):
        return wanted
    reference = wanted.removeprefix(OF_THE_PROJECT)
    row = await find_model(client, reference, await project_id(client, project))
    return f"{OF_THE_PROJECT}{row['id']}"


async def find_model(client: Client, reference: str, project: str) -> Row:
    """The model that `reference` names. Raises CliError when there is none."""
    name, separator, version = reference.rpartition(":")
    if not (separator and version.isdigit()):
        return await find(client, "fine_tuned_models", project, reference, thing="model")
    query = client.supabase.table("fine_tuned_models").select("*").eq("project_id", project)
    found = await client.rows(query.eq("name", name).eq("version", int(version)).limit(1))
    if not found:
        raise not_found(f"There is no version {version} of {name!r}.")
    return found[0]
