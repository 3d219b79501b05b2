"""`fineflow datasets check` and `convert`: plain files, with no stack and no account."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.command import command
from cli.exits import CliError, ExitCode
from cli.screen.dataset_files import reports_view
from cli.screen.output import Result

app = typer.Typer()

Mapping = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="KNOWN=YOURS", help="Your column for a known one; again for more."),
]


@command(app, "check")
async def check(
    files: Annotated[list[Path], typer.Argument(help="JSONL or JSON files.")],
    mapping: Mapping = None,
    listed: Annotated[int, typer.Option(min=0, help="Findings of each rule that are listed.")] = 5,
) -> Result:
    """Check files of training rows. Exit code 1 when one is not valid, 2 when one cannot be read."""
    from shared.datasets.check import check_file

    columns = parse_mapping(mapping)
    reports = [check_file(path, mapping=columns, listed_a_rule=listed) for path in files]
    data = {"valid": all(report.is_valid for report in reports), "files": [r.as_dict() for r in reports]}
    if not all(report.is_readable for report in reports):
        code = ExitCode.USAGE
    else:
        code = ExitCode.OK if data["valid"] else ExitCode.FAILED
    return Result(data, reports_view(reports), code)


def parse_mapping(given: list[str] | None) -> dict[str, str]:
    """Known columns to the file's own, from `known=own` texts. Raises CliError."""
    columns = {}
    for text in given or []:
        known, sign, own = text.partition("=")
        if not (known and sign and own):
            raise CliError(
                f"--map {text} is no KNOWN=YOURS.",
                hint="For example --map question=query.",
                exit_code=ExitCode.USAGE,
            )
        columns[known] = own
    return columns
