"""`fineflow pairs`: list, show, edit, undo, and one fix for all that need it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project
from cli.command import command
from cli.commands.datasets import DatasetName, find_dataset
from cli.exits import CliError, ExitCode
from cli.review import calls
from cli.review.commands import Where
from cli.review.keyboard import edited
from cli.review.screen import fix_view, history_table, pair_view, pairs_table, turns_of
from cli.screen.output import Result

app = typer.Typer(no_args_is_help=True, help="Single pairs of a dataset: look, edit, take back.")

PairId = Annotated[str, typer.Argument(metavar="PAIR", help="Id, or its first eight characters or more.")]


@command(app, "list")
async def list_pairs(
    dataset: DatasetName,
    where: Where = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Pairs to leave out first.")] = 0,
    project: Project = None,
) -> Result:
    """Pairs of a dataset: those not reviewed yet first, the riskiest before all."""
    condition = calls.parse_filter(where or [])
    async with open_client() as client:
        dataset_id = str((await find_dataset(client, dataset, project))["id"])
        pairs = await calls.riskiest(client, dataset_id, condition, limit=limit, offset=offset)
    return Result(pairs, pairs_table(pairs))


@command(app, "show")
async def show(pair: PairId) -> Result:
    """A pair with its source, and what was done to it."""
    async with open_client() as client:
        [row] = await calls.pairs_by_id(client, [str((await calls.find_pair(client, pair))["id"])])
        source = await calls.source_of(client, row)
        query = client.supabase.table("pair_revisions").select("*").eq("pair_id", row["id"])
        history = await client.rows(query.order("revision", desc=True).limit(100))
    view = Group(pair_view(row, source), Text(), history_table(history))
    return Result({**row, "source": source, "revisions": history}, view)


@command(app, "edit")
async def edit(
    pair: PairId,
    assistant: Annotated[str | None, typer.Option(help="The answer; of a conversation the last one.")] = None,
    user: Annotated[str | None, typer.Option(help="The question.")] = None,
    system: Annotated[str | None, typer.Option(help="The system message; empty: none.")] = None,
    rejected: Annotated[str | None, typer.Option(help="The worse answer of a preference.")] = None,
    changes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="JSON {assistant, user, system, rejected, messages}; - is stdin."),
    ] = None,
    revision: Annotated[
        int | None, typer.Option(min=0, help="That was read; refused when the pair has a later one.")
    ] = None,
) -> Result:
    """Rewrite a pair; without options in your editor."""
    given: Row = {"assistant": assistant, "user": user, "rejected": rejected}
    wanted = {name: text for name, text in given.items() if text is not None}
    if system is not None:
        wanted["system"] = system or None
    if changes is not None:
        wanted |= _read_changes(changes)
    async with open_client() as client:
        row = await calls.find_pair(client, pair)
        if not wanted:
            wanted = await _from_editor(row)
        if revision is not None:
            row = {**row, "revision": revision}
        answer = await calls.edit(client, row, wanted)
        return Result(answer, await _shown(client, answer))


@command(app, "undo")
async def undo(
    pair: Annotated[
        str | None, typer.Argument(metavar="PAIR", help="Its last step. Of a deleted one the full id.")
    ] = None,
    batch: Annotated[str | None, typer.Option(metavar="ID", help="All that one command did.")] = None,
) -> Result:
    """Take back the last step of a pair, or all that one command did."""
    if (pair is None) == (batch is None):
        raise CliError("Give a pair or --batch.", code="usage", exit_code=ExitCode.USAGE)
    async with open_client() as client:
        asked: Row = {"p_batch_id": batch}
        if pair is not None:
            is_full = len(pair) == 36
            asked = {"p_pair_id": pair if is_full else (await calls.find_pair(client, pair))["id"]}
        answer = await calls.call(client, "undo_review", asked)
    skipped = f", {answer['skipped']} changed since and were left" if answer["skipped"] else ""
    return Result(answer, f"{answer['undone']} pairs are as they were before{skipped}.")


@command(app, "fix")
async def fix(
    pair: PairId,
    apply: Annotated[bool, typer.Option("--apply", help="Without it the fix is only shown.")] = False,
) -> Result:
    """Replace what the last edit of this pair replaced in all other pairs of its dataset."""
    async with open_client() as client:
        row = await calls.find_pair(client, pair)
        answer = await calls.fix(client, str(row["id"]), preview=not apply)
    if apply:
        said = f"{answer['changed']} of {answer['matched']} pairs changed."
        for batch in answer["batch_ids"]:
            said += f"\nTake it back with `fineflow pairs undo --batch {batch}`."
    else:
        said = f"{answer['matched']} other pairs have it. Change them with --apply."
    return Result(answer, Group(fix_view(answer), Text(said)))


@command(app, "similar")
async def similar(pair: PairId, limit: Annotated[int, typer.Option(min=1, max=1000)] = 50) -> Result:
    """Pairs with the same issues, or with what the last edit of this one replaced."""
    async with open_client() as client:
        row = await calls.find_pair(client, pair)
        asked = {"p_pair_id": row["id"], "p_limit": limit}
        found = await client.rows(client.supabase.rpc("similar_pairs", asked))
        pairs = {
            item["id"]: item for item in await calls.pairs_by_id(client, [item["pair_id"] for item in found])
        }
    shown = [{**item, "pair": pairs.get(item["pair_id"])} for item in found]
    return Result(shown, pairs_table([item["pair"] for item in shown if item["pair"]]))


async def _shown(client: Client, answer: Row) -> Any:
    if not answer["changed"]:
        return "It says that already."
    [row] = await calls.pairs_by_id(client, [answer["pair"]["id"]])
    return pair_view(row, None)


async def _from_editor(row: Row) -> Row:
    if not sys.stdin.isatty():
        raise CliError(
            "Say what to change.", hint="See `fineflow pairs edit --help`.", exit_code=ExitCode.USAGE
        )
    written = await edited(str(turns_of(row)[-1]["content"]))
    if written is None:
        raise CliError("Nothing was changed.", exit_code=ExitCode.USAGE)
    return {"assistant": written}


def _read_changes(place: str) -> Row:
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
        changes = json.loads(text)
    except (OSError, ValueError) as error:
        message = f"{place}: {getattr(error, 'strerror', None) or error}."
        raise CliError(message, code="unreadable", exit_code=ExitCode.USAGE) from None
    if not isinstance(changes, dict):
        raise CliError(f"{place} is no JSON object.", code="unreadable", exit_code=ExitCode.USAGE)
    return changes
