"""`fineflow doctor`: what this machine has, what is missing, and how to mend it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import typer
from rich.console import Group
from rich.text import Text

from cli.command import command
from cli.commands.checks import LOCAL_CHECKS, Check, State, check_stack
from cli.exits import ExitCode
from cli.screen.output import Result, cell

root = typer.Typer()
_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


@command(root, "doctor")
async def doctor() -> Result:
    """Check this machine and the stack. Exit code 1 when something that is needed is missing."""
    checks = await asyncio.gather(*(asyncio.to_thread(_guarded, check) for check in LOCAL_CHECKS))
    checks += await check_stack()
    data = [{"name": c.name, "state": c.state.value, "detail": c.detail, "fix": c.fix} for c in checks]
    failed = any(check.state is State.FAIL for check in checks)
    view = Group(*(_line(check) for check in checks))
    return Result(data, view, ExitCode.FAILED if failed else ExitCode.OK)


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # a check that breaks is a finding, not the end of the others
        name = check.__name__.removeprefix("check_").replace("_", " ")
        return Check(name, State.WARN, f"could not be checked: {error}")


def _line(check: Check) -> Text:
    line = Text.assemble(
        (f"{check.state.value:<5}", _STYLES[check.state]), (f"{check.name:<16}", "bold"), cell(check.detail)
    )
    if check.fix and check.state is not State.OK:
        line.append(f"\n{'':21}{check.fix}", style="dim")
    return line
