"""`fineflow up`: the embedded stack, for people and for the demo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import typer

from cli.command import command
from cli.connection import data_dir, running_stack
from cli.output import Result

root = typer.Typer()


@command(root, "up")
async def up() -> Result:
    """Run the whole stack on this machine until Ctrl-C."""

    return Result(None)


@asynccontextmanager
async def stack_of_this_machine() -> AsyncIterator[tuple[dict[str, Any], bool]]:
    """The `stack.json` of a stack that answers, and whether it was started here and stops with this block.

    Raises CliError when one can neither be found nor started.
    """
    if (running := running_stack(data_dir())) is not None:
        yield running, False
        return
    from devstack.up import Stack

    async with Stack(data_dir()) as stack:
        yield stack.info, True
