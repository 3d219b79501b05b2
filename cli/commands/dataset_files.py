"""`fineflow datasets check` and `convert`: plain files, with no stack and no account."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.command import command
from cli.commands.interruptible import Tell, with_bar
from cli.exits import CliError, ExitCode
from cli.screen.dataset_files import conversion_view, reports_view
from cli.screen.output import Result

if TYPE_CHECKING:
    from shared.datasets.check import FileReport

app = typer.Typer()

_COUNTED_BYTES = 8 * 2**20  # tokens of so much are counted within a second or two

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
    exact_tokens: Annotated[
        bool,
        typer.Option("--exact-tokens", help="Count tokens, which small files are anyway; else estimated."),
    ] = False,
) -> Result:
    """Check files of rows, and what one tells of another. Exit code 1: one is not valid; 2: not readable."""
    from shared.datasets.check import check_files

    columns = parse_mapping(mapping)
    _find_vocabulary()
    size = sum(path.stat().st_size for path in files if path.is_file())

    def work(tell: Tell) -> list[FileReport]:
        exact = exact_tokens or size <= _COUNTED_BYTES
        return check_files(files, columns, listed, exact_tokens=exact, progress=tell)

    reports = await with_bar(files, work)
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

    def work(tell: Tell) -> FileReport:
        return convert_file(
            file, to, output, mapping=columns, with_metadata=metadata, skip_bad_rows=skip_bad,
            listed_a_rule=listed, progress=partial(tell, file),
        )  # fmt: skip

    try:
        report = await with_bar([file], work)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CliError(f"{output} cannot be written: {reason}.", exit_code=ExitCode.USAGE) from error
    is_written = report.is_readable and report.example_count > 0 and (report.is_valid or skip_bad)
    data = {**report.as_dict(), "written": is_written, "output": str(output), "to": to}
    code = ExitCode.OK if is_written else ExitCode.FAILED if report.is_readable else ExitCode.USAGE
    return Result(data, conversion_view(report, str(output), is_written=is_written), code)


def _find_vocabulary() -> None:
    """Tokens are counted by the vocabulary that `make install` brings, unless another place is named."""
    from devstack.install import TIKTOKEN_DIR

    if TIKTOKEN_DIR.is_dir():
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(TIKTOKEN_DIR))


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
