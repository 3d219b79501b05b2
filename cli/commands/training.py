"""`fineflow estimate` and `fineflow train`: what a training would take, and starting it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from cli.backend.client import open_client
from cli.backend.lookup import Project
from cli.command import command
from cli.commands.datasets import DatasetName, find_dataset
from cli.commands.jobs import follow_job
from cli.commands.models import base_model_of
from cli.commands.recipes import RecipeFile, library_differences, recipe_in, repeating
from cli.exits import CliError, ExitCode
from cli.screen.jobs import estimate_view, job_facts, job_result
from cli.screen.output import Result, notes

BaseModel = Annotated[
    str | None,
    typer.Option(
        "--base-model",
        "-m",
        help="A catalogue name, a Hub id, a path, or a model of the project as NAME:VERSION. Default:"
        " fineflow/tiny.",
    ),
]
Method = Annotated[
    Literal["full", "lora", "qlora", "dpo", "orpo", "kto", "embedding"],
    typer.Option(
        show_default=False,
        help="full changes all weights; lora and qlora add a few; dpo, orpo and kto learn which answers are"
        " preferred; embedding learns to find texts.",
    ),
]
Provider = Annotated[str, typer.Option(help="Where it runs.")]
Epochs = Annotated[int | None, typer.Option(min=1, max=50, help="Times over the data. Default: 3.")]
BatchSize = Annotated[int | None, typer.Option(min=1, max=512, help="Rows a step. Default: chosen.")]
LearningRate = Annotated[float | None, typer.Option(help="Default: chosen for the model.")]
MethodOrNone = Annotated[
    Literal["full", "lora", "qlora", "dpo", "orpo", "kto", "embedding"] | None,
    typer.Option(help="Default: full, or the template's."),
]
Template = Annotated[
    str | None,
    typer.Option("--template", "-t", metavar="NAME", help="Settings by name."),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any other training setting.")
]
Gpu = Annotated[str | None, typer.Option(help="As the provider names it. Default: chosen for the model.")]
GpuCount = Annotated[
    int | None,
    typer.Option(min=1, max=8, help="GPUs of one machine that train it together. Default: 1."),
]
SpendCap = Annotated[
    float | None, typer.Option(min=0.01, metavar="USD", help="A run that has cost this much is stopped.")
]
TINY = "fineflow/tiny"
root = typer.Typer()


@command(root, "estimate")
async def estimate(
    dataset: DatasetName,
    base_model: BaseModel = None,
    method: MethodOrNone = None,
    template: Template = None,
    provider: Provider = "local",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    settings: Settings = None,
    gpu: Gpu = None,
    gpu_count: GpuCount = None,
    spend_cap: SpendCap = None,
    project: Project = None,
) -> Result:
    """Cost, duration and memory of a training, and how the budget stands. Changes nothing."""
    config = training_config(epochs, batch_size, learning_rate, settings)
    async with open_client() as client:
        row = await find_dataset(client, dataset, project)
        base = await base_model_of(client, base_model, project)
        options = training_options(row["id"], provider, base, method, config, template)
        options |= _given(gpu=gpu, gpuCount=gpu_count, spendCapUsd=spend_cap)
        answer = await client.invoke("estimate-training", options)
    return Result(answer, estimate_view(answer))


@command(root, "train")
async def train(
    dataset: DatasetName,
    base_model: BaseModel = None,
    method: MethodOrNone = None,
    template: Template = None,
    provider: Provider = "local",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    settings: Settings = None,
    gpu: Gpu = None,
    gpu_count: GpuCount = None,
    spend_cap: SpendCap = None,
    model_name: Annotated[str | None, typer.Option(help="Default: the name of the dataset.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key starts the same job only once.")
    ] = None,
    timeout_seconds: Annotated[
        int | None, typer.Option(min=60, help="Default: six hours, or twice the estimate.")
    ] = None,
    recipe: RecipeFile = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show a live bar until it ends.")] = False,
    project: Project = None,
) -> Result:
    """Start a training job. Exit code 1 when a followed job does not complete."""
    config = training_config(epochs, batch_size, learning_rate, settings)
    repeated = None if recipe is None else recipe_in(recipe)
    if repeated and (config or base_model or method or template):
        hint = "Leave out --base-model, --method, --template and all settings, or --recipe."
        raise CliError("A recipe says how to train.", hint=hint, exit_code=ExitCode.USAGE)
    async with open_client() as client:
        row = await find_dataset(client, dataset, project)
        base = await base_model_of(client, base_model, project)
        request = training_options(row["id"], provider, base, method, config, template)
        if repeated:
            request |= repeating(repeated)
            for difference in library_differences(repeated) if provider == "local" else ():
                notes().print(f"Not as in the recipe: {difference}.", style="yellow", markup=False)
        request |= _given(
            gpu=gpu,
            gpuCount=gpu_count,
            spendCapUsd=spend_cap,
            modelName=model_name,
            idempotencyKey=idempotency_key,
            timeoutSeconds=timeout_seconds,
        )
        started = await client.invoke("start-training", request)
        for warning in started["warnings"]:
            notes().print(f"Warning: {warning}", style="yellow", markup=False)
        if follow:
            return job_result(await follow_job(client, started["jobId"], notes()))
    next_step = f"Follow it with `fineflow jobs follow {started['jobId'][:8]}`."
    return Result(started, job_facts({"id": started["jobId"], "status": started["status"]}, next_step))


def training_config(
    epochs: int | None, batch_size: int | None, learning_rate: float | None, settings: list[str] | None
) -> dict[str, Any]:
    """What the user set, by the API's names; the rest is the server's choice.

    Raises CliError for a setting that is not NAME=VALUE.
    """
    named = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    config = {name: value for name, value in named.items() if value is not None}
    for setting in settings or ():
        name, separator, value = setting.partition("=")
        if not separator or not name.strip():
            raise CliError(f"--set takes NAME=VALUE, not {setting!r}.", exit_code=ExitCode.USAGE)
        config[name.strip()] = _parsed(value.strip())
    return config


def training_options(
    dataset_id: str,
    provider: str,
    base_model: str | None,
    method: str | None,
    config: dict[str, Any],
    template: str | None = None,
) -> dict[str, Any]:
    """The fields that estimate-training and start-training share. None: as template or server say."""
    return {
        "datasetId": dataset_id,
        "provider": provider,
        "trainingConfig": config,
        **_given(baseModel=base_model, method=method, template=template),
    }


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value  # a word, such as the name of a scheduler
