"""What all commands share: `--json`, one event loop, and signals that stop the work cleanly."""

from __future__ import annotations

import asyncio
import functools
import inspect
import signal
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer

from cli.exits import Interrupted
from cli.screen.output import Result, notes, show

T = TypeVar("T")
AsyncCommand = Callable[..., Coroutine[Any, Any, Result]]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def command(app: typer.Typer, name: str | None = None) -> Callable[[AsyncCommand], AsyncCommand]:
    """Registers an async function as a command: its Result is shown, and its exit code ends the process.

    Every command takes `--json`; one that must know declares `as_json: JsonFlag` itself.
    """

    def register(function: AsyncCommand) -> AsyncCommand:
        wants_flag = "as_json" in inspect.signature(function).parameters

        @functools.wraps(function)
        def run(**options: Any) -> int:
            as_json = options["as_json"] if wants_flag else options.pop("as_json")
            return execute(function(**options), as_json=as_json)

        _declare(run, function, with_json_flag=not wants_flag)
        app.command(name)(run)
        return function

    return register


def execute(work: Coroutine[Any, Any, Result], *, as_json: bool) -> int:
    """The exit code of a command whose result has been shown."""
    result = run_until_signal(work)
    show(result, as_json=as_json)
    return result.exit_code


def _declare(run: Callable[..., int], function: Callable[..., Any], *, with_json_flag: bool) -> None:
    """What typer reads: the parameters of `function`, with their types evaluated where it was written."""
    flag = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonFlag)
    signature = inspect.signature(function, eval_str=True)
    parameters = [*signature.parameters.values(), *([flag] if with_json_flag else [])]
    declared = signature.replace(parameters=parameters)
    run.__signature__ = declared  # type: ignore[attr-defined] # functions carry no declared signature


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work`; the first Ctrl-C, TERM or HUP cancels it and later ones wait for its clean-up.

    Raises Interrupted once the work has ended after a signal.
    """
    received: list[int] = []

    async def supervised() -> T:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)

        def stop(number: int) -> None:
            if not received:
                notes().print("Stopping...", style="dim")
                task.cancel()
            received.append(number)

        for number in _stop_signals():
            loop.add_signal_handler(number, stop, number)
        return await task

    try:
        return asyncio.run(supervised())
    except BaseException as error:
        if not received:
            raise
        raise Interrupted(received[0]) from error


def _stop_signals() -> list[signal.Signals]:
    under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if under_nohup else [signal.SIGHUP])]
