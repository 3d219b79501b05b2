"""`fineflow datasets check` and `convert`: plain files, with no stack and no account."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.command import command
from cli.exits import CliError, ExitCode
from cli.screen.dataset_files import conversion_view, reports_view
from cli.screen.output import Result

app = typer.Typer()

Format = Literal[
    "openai", "anthropic", "prompt_completion", "alpaca", "sharegpt", "chatml", "question_answer",
    "dpo", "openai_preference", "sharegpt_preference", "kto",
]  # fmt: skip
Mapping = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="KNOWN=YOURS", help="Your column for a known one; again for more."),
]


@command(app, "check")
async def check(
    files: Annotated[list[Path], typer.Argument(help="JSONL, JSON, CSV or Parquet.")],
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


@command(app, "convert")
async def convert(
    file: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV or Parquet.")],
    to: Annotated[Format, typer.Option("--to", help="Format of the result.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to: .jsonl, .json, .csv or .parquet.")
    ],
    mapping: Mapping = None,
    metadata: Annotated[bool, typer.Option("--metadata", help="Keep other columns.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows with errors.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    listed: Annotated[int, typer.Option(min=0, help="Findings of each rule that are listed.")] = 5,
) -> Result:
    """Write a file in another format, whole or not at all. Exit code 1 when nothing was written."""
    from shared.datasets.convert import convert_file

    if output.exists() and not force:
        hint = "Choose another with --output, or replace it with --force."
        raise CliError(f"{output} exists already.", hint=hint, exit_code=ExitCode.USAGE)
    columns = parse_mapping(mapping)
    try:
        report = convert_file(
            file, to, output, mapping=columns, with_metadata=metadata, skip_bad_rows=skip_bad,
            listed_a_rule=listed,
        )  # fmt: skip
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CliError(f"{output} cannot be written: {reason}.", exit_code=ExitCode.USAGE) from error
    is_written = report.is_readable and report.example_count > 0 and (report.is_valid or skip_bad)
    data = {**report.as_dict(), "written": is_written, "output": str(output), "to": to}
    code = ExitCode.OK if is_written else ExitCode.FAILED if report.is_readable else ExitCode.USAGE
    return Result(data, conversion_view(report, str(output), is_written=is_written), code)


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
