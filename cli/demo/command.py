"""`fineflow demo`: the whole story on this machine, told while it happens.

A document goes in; a tuned model that answers behind a name comes out. Nothing but the stack's public
addresses is used, as any web app would use them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.backend.client import anonymous_client
from cli.backend.connection import PROJECT_ROOT, connection_to
from cli.command import JsonFlag, command
from cli.commands.documents import checked_file
from cli.commands.stack import stack_of_this_machine
from cli.demo import answers, chapters
from cli.demo.facts import Facts, Telling, shortfall
from cli.demo.story import Story
from cli.exits import ExitCode
from cli.screen.output import Result, console

root = typer.Typer()

EXAMPLES = PROJECT_ROOT / "examples"


@command(root, "demo")
async def demo(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[DOC]...", help="Default: the handbook in examples/.")
    ] = None,
    as_json: JsonFlag = False,
) -> Result:
    """From a document to a tuned model that answers, in about a minute.

    The last line is one JSON object. Exit code 0 only if the model knew nothing before and answers after.
    """
    documents = [checked_file(path) for path in paths or sorted(EXAMPLES.glob("*.md"))]
    story = Story(console(sys.stderr if as_json else sys.stdout))
    story.title("FineFlow, the whole story", "A document goes in, a tuned model that answers comes out.")
    facts = await _tell(story, documents)
    if (failure := shortfall(facts)) is not None:
        story.say(failure)
    last_line = json.dumps(asdict(facts))
    return Result(asdict(facts), last_line, ExitCode.FAILED if failure else ExitCode.OK)


async def _tell(story: Story, documents: Sequence[Path]) -> Facts:
    async with AsyncExitStack() as opened:
        with story.chapter("A whole stack on this machine"):
            stack, is_ours = await opened.enter_async_context(stack_of_this_machine(story.remark))
            how = "answer at" if is_ours else "were running already, at"
            story.say(f"Postgres, Auth, Storage, Realtime and the functions {how} {stack['url']}")
        client = await opened.enter_async_context(anonymous_client(connection_to(stack)))
        telling = Telling(story, client, dataset_name=documents[0].stem[:60].strip() or "document")
        await chapters.sign_up(telling)
        opened.push_async_callback(answers.warm_up(telling))
        await chapters.read_documents(telling, documents)
        dataset_id = await chapters.make_pairs(telling)
        await chapters.check_and_estimate(telling, dataset_id)
        questions = await answers.ask_before(telling, dataset_id)
        job = await chapters.train(telling, dataset_id)
        await chapters.deploy(telling, job)
        await answers.ask_after(telling, questions)
        telling.facts.seconds = round(story.seconds, 1)
    return telling.facts
