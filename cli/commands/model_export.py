"""`fineflow models export`: a model in forms for other programs, made where it lies or from Storage."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project, project_id
from cli.command import command
from cli.commands.model_fetch import run_directory
from cli.commands.models import ModelName, find_model, versioned_name
from cli.exits import CliError, ExitCode
from cli.screen.bars import file_bar
from cli.screen.output import Result, notes
from shared.models.stored import stored, whereabouts

app = typer.Typer()

Format = Literal["adapter", "merged", "gguf", "ollama"]
GRACE_SECONDS = 10  # in which a stopped export takes away what it had begun
LONGEST_LINE_BYTES = 1 << 20
_NEXT_STEPS: dict[Format, str] = {
    "adapter": "Load it with PEFT; README.md says how.",
    "merged": "Load it with transformers or vLLM; README.md says how.",
    "gguf": "Run it with `llama-server --jinja -m {directory}/model.gguf`.",
    "ollama": "Take it in with `ollama create NAME -f {directory}/Modelfile`.",
}


@command(app, "export")
async def export(
    model: ModelName,
    export_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="adapter: only what was trained. merged: the whole model in bfloat16. gguf: one file for"
            " llama.cpp and what is built on it. ollama: that, with a Modelfile.",
        ),
    ],
    quantization: Annotated[
        Literal["f32", "f16", "q8_0", "q4_k_m"], typer.Option(help="Of gguf and ollama.")
    ] = "f16",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Default: NAME-VERSION-FORMAT.")
    ] = None,
    project: Project = None,
) -> Result:
    """Write a model for other programs, with a card; where its weights lie, or from Storage."""
    async with open_client() as client:
        row = await find_model(client, model, await project_id(client, project))
        there = stored(row["artifact_path"])
        run_dir = await run_directory(client, row, there) if there else _run_directory(row)
        name = versioned_name(row)
        dataset = await _dataset_name(client, row)
    directory = output or Path(f"{row['name'].replace('/', '-')}-{row['version']}-{export_format}")
    arguments = [
        "--format",
        export_format,
        "--quantization",
        quantization,
        f"--output={directory.absolute()}",
    ]
    arguments += [f"--name={name}", *([f"--dataset={dataset}"] if dataset else [])]
    files = await _exported(run_dir, arguments, name)
    size_bytes = sum(file["bytes"] for file in files)
    told = ", ".join(file["name"] for file in files)
    next_step = _NEXT_STEPS[export_format].format(directory=directory)
    return Result(
        {"directory": str(directory), "files": files},
        f"{name} is in {directory}: {told}; {size_bytes / 2**20:,.1f} MiB. {next_step}",
    )


def _run_directory(row: Row) -> Path:
    path = Path(str(row["artifact_path"] or ""))
    if whereabouts(row["artifact_path"]) == "here":
        return path.parent
    name = versioned_name(row)
    if row["artifact_path"] is None:
        raise CliError(
            f"{row['provider']} keeps the weights of {name}.",
            code="weights_elsewhere",
            exit_code=ExitCode.USAGE,
        )
    raise CliError(
        f"The weights of {name} are not on this machine: they lie with {row['provider']} at {path}.",
        hint="Run this where they lie; or fetch the directory of the run, and there"
        " `python -m modal_app.export DIR --format FORMAT --output OUT`.",
        code="weights_elsewhere",
        exit_code=ExitCode.USAGE,
    )


async def _dataset_name(client: Client, row: Row) -> str | None:
    query = client.supabase.table("training_datasets").select("name").eq("id", row["dataset_id"] or row["id"])
    found = await client.rows(query.limit(1))
    return str(found[0]["name"]) if found else None


async def _exported(run_dir: Path, arguments: list[str], name: str) -> list[dict[str, Any]]:
    """The files that were written. A process of its own imports torch, and can be ended."""
    command = (sys.executable, "-m", "modal_app.export", str(run_dir), *arguments)
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=log, limit=LONGEST_LINE_BYTES
        )
        try:
            last = await _followed(process, name)
        finally:
            await _ended(process)
        if "files" in last:
            files: list[dict[str, Any]] = last["files"]
            return files
        error = last.get("error") or {"code": "export_failed", "message": _last_line(log)}
    raise CliError(error["message"], code=error["code"])


async def _followed(process: Process, name: str) -> dict[str, Any]:
    """The last thing that was told; a bar shows the others."""
    assert process.stdout is not None
    last: dict[str, Any] = {}
    with file_bar(notes()) as bar:
        async for line in process.stdout:
            last = json.loads(line)
            if "bytes_done" in last:
                bar.update({"name": name, **last})
    return last


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def _last_line(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read()[-4000:].decode(errors="replace").strip().splitlines()
    return f"The export ended early: {lines[-1][:500] if lines else 'it does not say why'}"
