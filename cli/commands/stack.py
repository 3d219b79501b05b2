"""`fineflow up`, and the stack that the demo plays on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import typer

from cli.backend.connection import data_dir, running_stack
from cli.command import JsonFlag, command
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, notes

if TYPE_CHECKING:
    from devstack.up import Stack

root = typer.Typer()
SECRET_FACTS = ("secret_key", "database_url", "demo_password")


@command(root, "up")
async def up(as_json: JsonFlag = False) -> Result:
    """Run the whole stack on this machine until Ctrl-C."""
    from devstack import up as devstack

    try:
        if not as_json:
            code = await devstack.up(data_dir())
            return Result(None, exit_code=ExitCode(code))
        async with stack_of_this_machine(lambda line: notes().print(line, markup=False)) as (stack, is_ours):
            if not is_ours:
                raise _already_running(f"A stack is already running at {stack['url']}.")
            shown = {name: value for name, value in stack.items() if name not in SECRET_FACTS}
            print(json.dumps(shown), flush=True)
            await asyncio.Event().wait()
    except asyncio.CancelledError:  # being stopped is how it ends well
        return Result({"stopped": True}, "Stopped.")
    raise AssertionError("nothing sets that event")


@asynccontextmanager
async def stack_of_this_machine(say: Callable[[str], object]) -> AsyncIterator[tuple[dict[str, Any], bool]]:
    """The `stack.json` of a stack that answers, and whether it was started here and ends with this block.

    Raises CliError when it cannot be started, or when it fails while the block runs.
    """
    from devstack.up import Stack, StackAlreadyRunning, StackFailed

    async with AsyncExitStack() as opened:
        try:
            stack = await opened.enter_async_context(Stack(data_dir(), say=say))
        except StackAlreadyRunning as error:
            running = running_stack(data_dir())
            if running is None:
                raise _already_running(str(error)) from error
            yield running, False
            return
        except StackFailed as error:
            raise CliError(f"The stack did not start: {error}", code="stack_failed") from error
        async with _ended_with(stack):
            yield stack.info, True


@asynccontextmanager
async def _ended_with(stack: Stack) -> AsyncIterator[None]:
    """The block is cancelled when the stack fails, and that failure is raised in its place."""
    block = asyncio.current_task()
    assert block is not None
    watch = asyncio.create_task(stack.wait())
    watch.add_done_callback(lambda done: None if done.cancelled() else block.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if not watch.done() or watch.cancelled():
            raise
        block.uncancel()
        raise CliError(f"The stack has ended: {watch.exception()}", code="stack_failed") from None
    finally:
        watch.cancel()


def _already_running(message: str) -> CliError:
    return CliError(
        message,
        hint="Wait until it is up, or stop it.",
        code="already_running",
        exit_code=ExitCode.UNREACHABLE,
    )
