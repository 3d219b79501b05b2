"""`fineflow models recipe`, and what `fineflow train --recipe` reads."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.backend.client import open_client
from cli.backend.lookup import Project, project_id
from cli.command import command
from cli.commands.models import ModelName, find_model, versioned_name
from cli.exits import CliError, ExitCode
from cli.screen.output import Result

if TYPE_CHECKING:
    from shared.training.recipe import Recipe

app = typer.Typer()

RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE",
        help="Repeat the run that `models recipe` wrote down: nothing else is set.",
    ),
]


@command(app, "recipe")
async def recipe(
    model: ModelName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it there. Default: print it.")
    ] = None,
    project: Project = None,
) -> Result:
    """What repeats the training of a model: `fineflow train DATASET --recipe FILE` does."""
    from shared.training.recipe import Recipe

    async with open_client() as client:
        row = await find_model(client, model, await project_id(client, project))
    if not row["recipe"].get("dataset_sha256"):
        raise CliError(
            f"{versioned_name(row)} was trained by {row['provider']}, which does not say how.",
            code="recipe_missing",
            exit_code=ExitCode.USAGE,
        )
    found = Recipe.model_validate(row["recipe"])
    if output is None:
        return Result(found.model_dump(mode="json"), found.written().rstrip())
    try:
        output.write_text(found.written(), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CliError(f"{output} cannot be written: {reason}.", exit_code=ExitCode.USAGE) from error
    data = {"file": str(output), "recipe": found.model_dump(mode="json")}
    return Result(data, f"Repeat it with `fineflow train DATASET --recipe {output}`.")


def recipe_in(file: Path) -> Recipe:
    """The recipe in a file. Raises CliError."""
    from shared.errors import InvalidRequest
    from shared.training.recipe import MAX_RECIPE_BYTES, read_recipe

    try:
        with file.open("rb") as opened:
            return read_recipe(opened.read(MAX_RECIPE_BYTES + 1), file.name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CliError(f"{file} cannot be read: {reason}.", exit_code=ExitCode.USAGE) from error
    except InvalidRequest as error:
        raise CliError(error.message, code="recipe_invalid", exit_code=ExitCode.USAGE) from error


def repeating(recipe: Recipe) -> dict[str, Any]:
    """The fields of start-training that make it the same run."""
    held = recipe.validation_sha256
    return {
        "baseModel": recipe.base_model,
        "method": recipe.method,
        "trainingConfig": recipe.config.model_dump(mode="json"),
        "datasetSha256": recipe.dataset_sha256,
        **({"baseRevision": recipe.base_revision} if recipe.base_revision else {}),
        **({"validationSha256": held} if held else {}),
        **({"gpuCount": recipe.gpu_count} if recipe.gpu_count > 1 else {}),
    }


def library_differences(recipe: Recipe) -> list[str]:
    """Which libraries are not here as they were there: then the weights come near, and are not equal."""
    return recipe.differences({name: _version(name) for name in recipe.libraries})


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
