"""The `fineflow` command: a Supabase client like any other, with a live bar.

What a command prints is its result on stdout (`--json`: one JSON document); progress and remarks go to
stderr. How it ends is told by `cli.exits.ExitCode`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from cli.backend.failures import explain
from cli.commands import (
    account,
    advice,
    chat,
    dataset_export,
    dataset_files,
    dataset_generation,
    datasets,
    doctor,
    documents,
    imports,
    jobs,
    keys,
    model_export,
    model_fetch,
    models,
    prompts,
    recall,
    recipes,
    splits,
    stack,
    templates,
    training,
    xray,
)
from cli.demo import command as demo
from cli.exits import CliError, ExitCode, Interrupted
from cli.review import commands as review
from cli.review import pairs
from cli.screen.output import notes, show_error
from shared import log

EXIT_TABLE = "Exit codes: 0 done, 1 failed, 2 wrong input, 3 no stack, 4 not allowed, 130 interrupted."

app = typer.Typer(
    name="fineflow",
    help="From documents to a tuned model that answers behind a name.",
    epilog=EXIT_TABLE,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (stack, demo, doctor, account, advice, training, models, chat):
    app.registered_commands.extend(commands.root.registered_commands)
documents.app.registered_commands.extend(recall.app.registered_commands)
app.add_typer(documents.app, name="docs")
datasets.app.registered_commands.extend(dataset_generation.app.registered_commands)
datasets.app.registered_commands.extend(dataset_export.app.registered_commands)
datasets.app.registered_commands.extend(dataset_files.app.registered_commands)
datasets.app.registered_commands.extend(review.app.registered_commands)
datasets.app.registered_commands.extend(splits.app.registered_commands)
datasets.app.registered_commands.extend(imports.app.registered_commands)
datasets.app.registered_commands.extend(xray.app.registered_commands)
app.add_typer(datasets.app, name="datasets")
app.add_typer(pairs.app, name="pairs")
app.add_typer(jobs.app, name="jobs")
app.add_typer(templates.app, name="templates")
models.app.registered_commands.extend(model_fetch.app.registered_commands)
models.app.registered_commands.extend(model_export.app.registered_commands)
models.app.registered_commands.extend(recipes.app.registered_commands)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(prompts.app, name="prompts")


def main() -> None:
    """The entry point: runs the command and ends the process with its exit code."""
    log.configure()  # to stderr: stdout is for the result
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command line; expected failures are told in a sentence, not in a traceback."""
    as_json = "--json" in arguments  # read here, so that errors in the arguments come as JSON too
    try:
        outcome = app(list(arguments), prog_name="fineflow", standalone_mode=False)
    except Interrupted as interrupted:
        notes().print("Interrupted.", style="dim")
        return interrupted.exit_status
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or closing stdout complains again
        return ExitCode.FAILED
    except Exception as error:
        failure = _usage_error(error) or explain(error)
        if failure is None:
            raise
        if failure.message:  # a group without a command has printed its help already
            show_error(failure, as_json=as_json)
        return failure.exit_code
    return int(outcome or 0)


def _usage_error(error: Exception) -> CliError | None:
    format_message = getattr(error, "format_message", None)  # typer keeps the classes of these private
    if format_message is None:
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "fineflow"
    return CliError(
        format_message(),
        hint=f"See `{path} --help`.",
        code="usage",
        exit_code=ExitCode.USAGE,
    )


if __name__ == "__main__":
    main()
