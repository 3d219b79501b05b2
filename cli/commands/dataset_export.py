"""`fineflow datasets export`: pairs of a dataset as a file here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.backend.client import open_client
from cli.backend.lookup import Project
from cli.command import command
from cli.commands.datasets import DatasetName, find_dataset
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, notes

app = typer.Typer()

Format = Literal[
    "openai", "anthropic", "alpaca", "sharegpt", "chatml", "prompt_completion", "question_answer",
    "dpo", "openai_preference", "sharegpt_preference", "kto",
]  # fmt: skip


@command(app, "export")
async def export(
    dataset: DatasetName,
    export_format: Annotated[Format | None, typer.Option("--format", help="Default: its own.")] = None,
    container: Annotated[
        Literal["jsonl", "json", "csv", "parquet"], typer.Option(help="Of the file.")
    ] = "jsonl",
    approved: Annotated[bool, typer.Option("--approved", help="Only approved pairs.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Rejected and invalid pairs too.")] = False,
    split: Annotated[
        Literal["train", "validation", "test"] | None, typer.Option(help="Only this part.")
    ] = None,
    kind: Annotated[
        Literal["sft", "preference", "kto"] | None, typer.Option(help="Only pairs of this kind.")
    ] = None,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="With columns that tell where each pair comes from.")
    ] = False,
    skip_unheld: Annotated[
        bool, typer.Option("--skip-unheld", help="Leave out what the format cannot hold.")
    ] = False,
    without_reasoning: Annotated[
        bool, typer.Option("--without-reasoning", help="Answers alone, without <think>...</think>.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: NAME-FORMAT.CONTAINER.")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Write README.md, which tells what is in it, beside the file.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    project: Project = None,
) -> Result:
    """Write chosen pairs of a dataset to a file that trainers and providers read."""
    if approved and everything:
        raise CliError("--approved and --all contradict each other.", exit_code=ExitCode.USAGE)
    async with open_client() as client:
        row = await find_dataset(client, dataset, project)
        request = {
            "datasetId": row["id"],
            "format": export_format,
            "container": container,
            "include": "approved" if approved else "all" if everything else "usable",
            "split": split,
            "kind": kind,
            "withProvenance": provenance,
            "skipUnheld": skip_unheld,
            "withoutReasoning": without_reasoning,
        }
        answer = await client.invoke("export-dataset", request)
        name = f"{row['name'].replace('/', '-')}-{answer['format']}.{container}"
        path = output or Path(name)
        wanted = {path: answer["path"], **({path.with_name("README.md"): answer["cardPath"]} if card else {})}
        if not force and (there := next((target for target in wanted if target.exists()), None)):
            hint = "Choose another with --output, or replace it with --force."
            raise CliError(f"{there} exists already.", hint=hint, exit_code=ExitCode.USAGE)
        files = client.supabase.storage.from_("exports")
        for target, stored in wanted.items():
            content = await files.download(stored)
            if target is not path:  # the card names the file as it is called here
                content = content.replace(Path(answer["path"]).name.encode(), path.name.encode())
            _replace(target, content)
    for left_out in answer["skipped"]:
        notes().print(f"Left out: {left_out['reason']}", style="yellow", markup=False)
    if answer["bareCount"]:
        said = f"{answer['bareCount']} pairs have columns of their own; --provenance keeps them."
        notes().print(said, style="yellow")
    return Result({**answer, "file": str(path)}, _told(answer, path))


def _told(answer: dict[str, object], path: Path) -> str:
    left_out = f", {answer['skippedCount']} left out" if answer["skippedCount"] else ""
    return f"{answer['pairCount']} pairs{left_out}, {answer['byteSize']} bytes in {path}"


def _replace(path: Path, content: bytes) -> None:
    """The file is there whole, or as it was. Raises CliError."""
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(draft, 0o644)
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CliError(f"{path} cannot be written: {reason}.", exit_code=ExitCode.USAGE) from error
