"""`fineflow datasets import`: files of rows become a dataset."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import uuid4

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.live import follow
from cli.backend.lookup import Project, project_id
from cli.command import command
from cli.commands.dataset_files import Mapping, parse_mapping
from cli.commands.dataset_generation import Format
from cli.commands.documents import storage_name
from cli.exits import CliError, ExitCode
from cli.screen.bars import Bar, import_bar
from cli.screen.output import Result, notes

app = typer.Typer()

Kind = Literal["sft", "preference", "kto"]
MAX_BYTES = 100 * 2**20  # the limit of the bucket
MAX_FILES = 100
UPLOADS_AT_ONCE = 4
_CONDITION = re.compile(r"([^=<>]+)(=|>=|<=)(.*)", re.DOTALL)


@command(app, "import")
async def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSONL, JSON, CSV or Parquet.")],
    name: Annotated[str | None, typer.Option(help="Of the dataset. Default: the first file's.")] = None,
    mapping: Mapping = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows with errors.")] = False,
    gold_star: Annotated[bool, typer.Option("--gold-star", help="Of a log: gold-star rows only.")] = False,
    min_rating: Annotated[
        int | None, typer.Option(min=1, max=5, help="Of a log: rows rated so well.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Of a log: rows with it; also >= and <=; again for more."),
    ] = None,
    kind: Annotated[Kind | None, typer.Option("--as", help="Of a log. Default: as each row says.")] = None,
    system_prompt: Annotated[str | None, typer.Option(help="Put before rows that have none.")] = None,
    export_format: Annotated[Format, typer.Option("--format", help="For exports.")] = "openai",
    wait: Annotated[bool, typer.Option(help="Wait until the rows are imported.")] = True,
    project: Project = None,
) -> Result:
    """Make a dataset of files of rows, or of rated logs: all of it, or nothing. Exit code 1 for nothing."""
    request = {
        "datasetName": (name or files[0].stem)[:120],
        "format": export_format,
        "systemPrompt": system_prompt,
        "mapping": parse_mapping(mapping) or None,
        "skipBadRows": skip_bad,
        "goldStarOnly": gold_star or None,
        "minRating": min_rating,
        "filter": parse_conditions(where) or None,
        "as": kind,
    }
    sizes = {file: _size(file) for file in checked_files(files)}
    async with open_client() as client:
        target = await project_id(client, project)
        with import_bar(notes()) as bar:
            paths = await upload_files(client, target, sizes, bar)
            named = [{"path": path, "name": file.name} for file, path in paths.items()]
            asked = {"projectId": target, "files": named, **request}
            given = {field: value for field, value in asked.items() if value is not None}
            answer = await client.invoke("import-dataset", given)
            dataset = await follow(
                client,
                "training_datasets",
                str(answer["datasetId"]),
                until=lambda row: not wait or row["status"] not in ("draft", "generating"),
                on_update=lambda update: bar.update(update.row),
            )
    failed = dataset["status"] == "failed"
    from cli.screen.imports import import_view  # brings all checks along, which --help does not wait for

    return Result(dataset, import_view(dataset), ExitCode.FAILED if failed else ExitCode.OK)


def checked_files(files: Sequence[Path]) -> Sequence[Path]:
    """The same files when all can be sent. Raises CliError saying why one cannot."""
    if len(files) > MAX_FILES:
        raise _unusable(f"{len(files)} files", f"an import may have {MAX_FILES}")
    for file in files:
        if not file.exists():
            raise _unusable(file, "there is no such file")
        if not file.is_file():
            raise _unusable(file, "it is not a file")
        if _size(file) > MAX_BYTES:
            raise _unusable(file, f"it is larger than {MAX_BYTES // 2**20} MiB; split it")
        if files.count(file) > 1:
            raise _unusable(file, "it is named twice")
    return files


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise _unusable(file, error.strerror or type(error).__name__) from error


def _unusable(what: object, reason: str) -> CliError:
    return CliError(f"Cannot use {what}: {reason}.", code="bad_file", exit_code=ExitCode.USAGE)


async def upload_files(client: Client, project: str, sizes: dict[Path, int], bar: Bar) -> dict[Path, str]:
    """Where in the bucket each file is now, in the order given; the bar shows how much is sent."""
    slots = asyncio.Semaphore(UPLOADS_AT_ONCE)
    row: Row = {"status": "uploading", "byte_count": sum(sizes.values()), "bytes_done": 0}

    def sent(byte_count: int) -> None:
        row["bytes_done"] = min(row["bytes_done"] + byte_count, row["byte_count"])
        bar.update(row)

    async def upload(file: Path) -> str:
        path = f"{project}/{uuid4()}/{storage_name(file.name, otherwise='rows')}"
        async with slots:
            try:
                with _Counted(file, sent) as stream:
                    await client.supabase.storage.from_("uploads").upload(path, stream)
            except OSError as error:
                raise _unusable(file, error.strerror or type(error).__name__) from error
        return path

    bar.update(row)
    paths = await asyncio.gather(*map(upload, sizes))
    return dict(zip(sizes, paths, strict=True))


class _Counted(FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        super().__init__(path)
        self._on_read = on_read

    def read(self, size: int | None = -1, /) -> bytes | Any:  # None only where reading does not wait
        content = super().read(-1 if size is None else size)
        self._on_read(len(content))
        return content


def parse_conditions(given: list[str] | None) -> dict[str, Any]:
    """What import-dataset takes as filter, from texts like lang=en, rating>=4 and day<=2026-11-29.

    Several values for one field are alternatives. Raises CliError.
    """
    equal: dict[str, list[Any]] = {}
    bounds: dict[str, dict[str, Any]] = {}
    for text in given or []:
        match = _CONDITION.fullmatch(text)
        if match is None:
            hint = "For example --where lang=en, or --where 'turns>=4'."
            raise CliError(f"--where {text} is no FIELD=VALUE.", hint=hint, exit_code=ExitCode.USAGE)
        field, sign, value = match.groups()
        if sign == "=":
            equal.setdefault(field, []).append(_value(value))
        else:
            bounds.setdefault(field, {})["gte" if sign == ">=" else "lte"] = _value(value)
    conditions: dict[str, Any] = {field: bound for field, bound in bounds.items()}
    for field, values in equal.items():
        conditions[field] = {**bounds[field], "in": values} if field in bounds else values
    return conditions


def _value(text: str) -> Any:
    """A number, true or false when it reads as one, else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) and abs(value) < 2**53 else text
