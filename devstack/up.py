"""`python -m devstack.up`: the embedded stack on one address, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from devstack.stack import DEFAULT_PORT, Stack
from devstack.stack_files import StackAlreadyRunning
from devstack.supervisor import Say, StackFailed

__all__ = ["Stack", "StackAlreadyRunning", "StackFailed", "main", "run_until_signal", "serve", "up"]
FAILED, ALREADY_RUNNING = 1, 3


def tell(line: str) -> None:
    """Prints a line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def up(data_dir: Path | None = None, port: int = DEFAULT_PORT, say: Say = tell) -> int:
    """Runs the stack until it is cancelled or fails; the exit code: 1 failed, 3 already running."""
    return await serve(Stack(data_dir, port, say=say), say)


async def serve(stack: Stack, say: Say) -> int:
    """Runs this stack as `up` does."""
    try:
        async with stack:
            say(_welcome(stack))
            await stack.wait()
    except StackAlreadyRunning as running:
        say(str(running))
        return ALREADY_RUNNING
    except StackFailed as failed:
        say(f"The stack has ended: {failed}")
        return FAILED
    return 0


def _welcome(stack: Stack) -> str:
    here = Path.cwd()
    data_dir = stack.data_dir.relative_to(here) if stack.data_dir.is_relative_to(here) else stack.data_dir
    return (
        f"\nFineFlow is up at {stack.url}\n"
        f"  demo login      {stack.demo_email} / {stack.demo_password}\n"
        f"  publishable key {stack.publishable_key}\n"
        f"  secret key      in {data_dir / 'stack.json'}\n"
        f"  logs            {data_dir / 'logs'}\n"
        "Ctrl-C stops it.\n"
    )


def run_until_signal(work: Coroutine[Any, Any, int]) -> int:
    """The exit code of `work`. The first Ctrl-C, TERM or HUP cancels it; later ones wait for its end."""

    async def run() -> int:
        task = asyncio.ensure_future(work)
        received: list[int] = []

        def stop(number: int) -> None:
            received.append(number)
            if len(received) == 1:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        with suppress(asyncio.CancelledError):
            return await task
        return 0 if received[0] == signal.SIGINT else 128 + received[0]

    return asyncio.run(run())


def main() -> int:
    """The exit code: 0 after Ctrl-C."""
    return run_until_signal(up())


if __name__ == "__main__":
    sys.exit(main())
