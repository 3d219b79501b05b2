"""`fineflow chat`: ask a deployment, a model, or the base model."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project, project_id
from cli.command import command
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, cell, notes

root = typer.Typer()
MAX_TOKENS = 256


@command(root, "chat")
async def chat(
    model: Annotated[str, typer.Argument(help="A deployment's name, a model's id, or a base model.")],
    message: Annotated[str | None, typer.Argument(help="Default: standard input, or a conversation.")] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=2048)] = MAX_TOKENS,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.0,
    project: Project = None,
) -> Result:
    """Ask once, or talk: without a message on a terminal it is a conversation until Ctrl-D."""
    options = {"model": model, "max_tokens": max_tokens, "temperature": temperature}
    history = [{"role": "system", "content": system}] if system else []
    async with open_client() as client:
        options["project_id"] = await project_id(client, project)
        if message is None and sys.stdin.isatty():
            return await _conversation(client, options, history)
        asked = (message or sys.stdin.read()).strip()
        if not asked:
            raise CliError("There is no message.", exit_code=ExitCode.USAGE)
        answer = await ask(client, options, [*history, {"role": "user", "content": asked}])
    return Result(answer, cell(text_of(answer)))


async def ask(client: Client, options: dict[str, Any], messages: list[Row]) -> Row:
    """The completion in OpenAI's shape. `options` names the model and how it answers."""
    return await client.invoke("chat", {**options, "messages": messages, "node_type": "cli"})


def text_of(completion: Row) -> str:
    """What the model said; an untrained one may say nothing."""
    return str(completion["choices"][0]["message"]["content"] or "")


async def _conversation(client: Client, options: dict[str, Any], history: list[Row]) -> Result:
    console = notes()
    console.print(f"Talking to {options['model']}. Ctrl-D ends it.", style="dim", markup=False)
    while (asked := await asyncio.to_thread(_read_line)) is not None:
        if asked.strip():
            history.append({"role": "user", "content": asked})
            answer = text_of(await ask(client, options, history))
            history.append({"role": "assistant", "content": answer or " "})
            console.print(cell(answer))
    return Result({"messages": history})


def _read_line() -> str | None:
    try:
        return input("> ")
    except EOFError:
        return None
