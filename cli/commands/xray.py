"""`fineflow datasets xray`: what a trainer would learn, token by token; of a file it needs no stack."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.backend.client import open_client
from cli.backend.lookup import Project
from cli.command import command
from cli.commands.datasets import find_dataset
from cli.commands.models import base_model_of
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, notes

if TYPE_CHECKING:
    from shared.datasets.base_tokenizer import BaseTokenizer
    from shared.datasets.examples import Example
    from shared.datasets.xray import RowXray, Totals

app = typer.Typer()

IDLE_ROWS_TOLD = 20  # for people
IDLE_ROWS_LISTED = 1_000  # as JSON
SHOWN_OF_DATASET = 50  # rows that the stack shows at once
NO_TEMPLATE = "The base model has no chat template; the trainer uses a plain one."


@command(app, "xray")
async def xray(
    target: Annotated[
        str, typer.Argument(metavar="FILE|DATASET", help="Training rows: a file here, else a dataset.")
    ],
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="For a file: directory of a base model, with its tokenizer.json."),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", "-m", help="For a dataset: one that the stack can open."),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="In tokens, as in a job. Default: a job's own, 1024.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, max=1000, help="Rows to show token by token.")] = 3,
    project: Project = None,
) -> Result:
    """Show which tokens a training run learns. Exit code 1 when it learns nothing."""
    if tokenizer is not None:
        return await _of_file(Path(target), tokenizer, max_length, rows)
    if base_model is None or os.path.isfile(target):  # noqa: ASYNC240 - nothing else waits
        hint = "For a file give --tokenizer DIRECTORY, for a dataset of the stack --base-model NAME."
        raise CliError("Whose tokens?", hint=hint, exit_code=ExitCode.USAGE)
    return await _of_dataset(target, project, base_model, max_length, rows)


async def _of_dataset(
    name: str, project: str | None, base_model: str, max_length: int | None, rows: int
) -> Result:
    from cli.screen.xray import dataset_xray_view

    async with open_client() as client:
        row = await find_dataset(client, name, project)
        request = {
            "datasetId": row["id"],
            "baseModel": await base_model_of(client, base_model, project),
            "showRows": min(rows, SHOWN_OF_DATASET),
            **({} if max_length is None else {"maxLengthTokens": max_length}),
        }
        report = await client.invoke("validate-dataset", request)
    seen = report["xray"]
    if not seen["hasOwnTemplate"]:
        notes().print(NO_TEMPLATE, style="yellow")
    view = dataset_xray_view(report, colours=sys.stdout.isatty())
    return Result(report, view, ExitCode.FAILED if seen["refusal"] else ExitCode.OK)


async def _of_file(file: Path, tokenizer: Path, max_length: int | None, rows: int) -> Result:
    from cli.screen.xray import xray_view
    from shared.datasets.base_tokenizer import BaseTokenizer
    from shared.datasets.loss_mask import limit_tokens
    from shared.errors import InvalidRequest

    try:
        with BaseTokenizer(tokenizer) as base:
            limit = limit_tokens(max_length, base.context_length_tokens)
            shown, idle, totals = await asyncio.to_thread(_seen, file, base, limit, rows)
            own_template = base.has_own_template
    except InvalidRequest as error:
        raise CliError(error.message, code=error.code, exit_code=ExitCode.USAGE) from error
    if not own_template:
        notes().print(NO_TEMPLATE, style="yellow")
    data: dict[str, Any] = {
        "valid": totals.refusal is None,
        "refusal": totals.refusal,
        "maxLengthTokens": limit,
        "hasOwnTemplate": own_template,
        "totals": totals.as_dict(),
        "rows": [row.as_dict() for row in shown],
        "rowsWithReason": [row.as_dict() for row in idle],
    }
    view = xray_view(shown, idle[:IDLE_ROWS_TOLD], totals, limit=limit, colours=sys.stdout.isatty())
    return Result(data, view, ExitCode.FAILED if totals.refusal else ExitCode.OK)


def _seen(
    file: Path, base: BaseTokenizer, limit: int, rows: int
) -> tuple[list[RowXray], list[RowXray], Totals]:
    """The first rows in full, further rows with a reason, and the totals. Raises CliError."""
    from shared.datasets.xray import Totals, xray

    shown: list[RowXray] = []
    idle: list[RowXray] = []
    totals = Totals()
    for row in xray(_items(file), base, limit=limit, rows_in_full=rows):
        totals.add(row)
        if len(shown) < rows:
            shown.append(row)
        elif row.reason is not None and len(idle) < IDLE_ROWS_LISTED:
            idle.append(row)
    return shown, idle, totals


def _items(file: Path) -> Iterator[Example | RowXray]:
    """The rows of the file; one that cannot be read is refused already."""
    from shared.datasets.examples import Example
    from shared.datasets.file_rows import UNREADABLE
    from shared.datasets.reading import read_examples
    from shared.datasets.xray import RowXray

    for item in read_examples(file):
        if isinstance(item, Example):
            yield item
        elif item.rule in UNREADABLE:
            raise CliError(
                f"{file}: {item.message}", hint=item.hint, code=item.rule, exit_code=ExitCode.USAGE
            )
        elif item.is_error:
            yield RowXray(item.line or 1, reason=item.message, is_refused=True)
