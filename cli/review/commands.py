"""`fineflow datasets review`, `certificate` and `preferences`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project
from cli.command import JsonFlag, command
from cli.commands.datasets import DatasetName, find_dataset
from cli.exits import CliError, ExitCode
from cli.review import calls
from cli.review.keyboard import Keyboard
from cli.review.loop import NextPairs, Session
from cli.review.screen import certificate_view, pairs_table
from cli.screen.output import Result, cell, facts, notes, short

app = typer.Typer()

_ACTIONS = "approve, reject, reset, star, unstar, rate=1 to rate=5, unrate, delete or restore"
_BULK: dict[str, tuple[str, int | None]] = {
    **{name: (name, None) for name in ("approve", "reject", "reset", "delete", "restore")},
    "star": ("gold_star", None),
    "unstar": ("no_gold_star", None),
    "unrate": ("rate", None),
    **{f"rate={stars}": ("rate", stars) for stars in range(1, 6)},
}
Where = Annotated[list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help=calls.FILTER_HELP)]


def _ids(action: str) -> Any:
    return typer.Option(f"--{action}", metavar="ID", help=f"{action.capitalize()} this pair; again for more.")


@command(app, "review")
async def review(
    dataset: DatasetName,
    where: Where = None,
    sample: Annotated[bool, typer.Option("--sample", help="What was drawn for the certificate.")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Print the riskiest pairs and end.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Pairs in the list.")] = 20,
    approve: Annotated[list[str] | None, _ids("approve")] = None,
    reject: Annotated[list[str] | None, _ids("reject")] = None,
    star: Annotated[list[str] | None, _ids("star")] = None,
    delete: Annotated[list[str] | None, _ids("delete")] = None,
    restore: Annotated[list[str] | None, _ids("restore")] = None,
    do: Annotated[
        str | None, typer.Option("--do", metavar="ACTION", help=f"To all that --where names: {_ACTIONS}.")
    ] = None,
    to_all: Annotated[bool, typer.Option("--all", help="With --do: to all pairs of the dataset.")] = False,
    project: Project = None,
    as_json: JsonFlag = False,
) -> Result:
    """Look at pairs, the riskiest first, by keyboard; or act on them by options."""
    condition = calls.parse_filter(where or [])
    by_id = {"approve": approve, "reject": reject, "star": star, "delete": delete, "restore": restore}
    async with open_client() as client:
        row = await find_dataset(client, dataset, project)
        dataset_id = str(row["id"])
        if any(by_id.values()) or do:
            return await _act(client, dataset_id, by_id, do, condition if where or to_all else None)
        pending: Row = {"review_status": "pending"} | condition
        next_pairs = _drawn(client, dataset_id) if sample else _riskiest(client, dataset_id, pending)
        if list_only or as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            pairs = await next_pairs(limit)
            return Result(pairs, pairs_table(pairs))
        return await _by_keyboard(client, dataset_id, next_pairs)


@command(app, "certificate")
async def certificate(
    dataset: DatasetName,
    max_bad: Annotated[float, typer.Option(min=0.001, max=0.5, help="Share of bad pairs, 0-1.")] = 0.03,
    confidence: Annotated[float, typer.Option(min=0.6, max=0.9999)] = 0.95,
    draw_again: Annotated[bool, typer.Option("--draw-again", help="When it is stale or refused.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Draw nothing, grant nothing; viewers may.")] = False,
    project: Project = None,
) -> Result:
    """Certify by a random sample that few pairs are bad. Exit code 1 until it is granted."""
    async with open_client() as client:
        dataset_id = str((await find_dataset(client, dataset, project))["id"])
        asked: Row = {"p_dataset_id": dataset_id}
        if show:
            standing = await calls.call(client, "certificate_standing", asked)
        else:
            asked |= {"p_max_bad_share": max_bad, "p_confidence": confidence, "p_draw_again": draw_again}
            standing = await calls.call(client, "issue_certificate", asked)
    if standing is None:
        return Result(None, "No sample was drawn yet.", ExitCode.FAILED)
    is_open = standing["state"] == "open"
    hint = [Text(f"Review what was drawn: `fineflow datasets review {dataset} --sample`.")] if is_open else []
    code = ExitCode.OK if standing["state"] == "granted" else ExitCode.FAILED
    return Result(standing, Group(certificate_view(standing), *hint), code)


@command(app, "preferences")
async def preferences(
    dataset: DatasetName,
    name: Annotated[str | None, typer.Option(help="Of the new dataset. Default: only list them.")] = None,
    project: Project = None,
) -> Result:
    """What reviewers rewrote, as preference pairs; with --name a dataset of them, for dpo and orpo."""
    async with open_client() as client:
        dataset_id = str((await find_dataset(client, dataset, project))["id"])
        if name is None:
            query = client.supabase.table("preferences_from_edits").select("*").eq("dataset_id", dataset_id)
            found = await client.rows(query.order("edited_at").limit(1000))
            return Result(found, Group(*map(_preference, found)) if found else "No answer was rewritten yet.")
        asked = {"p_dataset_id": dataset_id, "p_name": name}
        made = await calls.call(client, "make_preference_dataset", asked)
    shown = facts([("id", made["id"]), ("name", made["name"]), ("pairs", made["pair_count"])])
    return Result(made, shown)


async def _act(
    client: Client, dataset_id: str, by_id: dict[str, list[str] | None], do: str | None, condition: Row | None
) -> Result:
    """What the options ask for, one after the other, each as one step that can be taken back."""
    if do is not None and (do not in _BULK or condition is None):
        message = f"--do takes {_ACTIONS}." if do not in _BULK else "--do needs --where or --all."
        raise CliError(message, code="usage", exit_code=ExitCode.USAGE)
    console, done = notes(), []

    def tell(changed: int) -> None:
        console.print(f"{changed} pairs so far", style="dim")

    for name, references in by_id.items():
        if references:
            if name == "restore":
                ids = calls.require_full_ids(references)
            else:
                found = await calls.find_pairs(client, references, dataset_id=dataset_id)
                ids = [str(pair["id"]) for pair in found]
            action, rating = _BULK[name]
            done.append(await calls.review(client, dataset_id, action, ids=ids, rating=rating))
    if do is not None:
        action, rating = _BULK[do]
        done.append(
            await calls.review(client, dataset_id, action, where=condition, rating=rating, on_progress=tell)
        )
    lines = [f"{step['action']}: {step['changed']} of {step['matched']} pairs changed" for step in done]
    batches = [batch for step in done for batch in step["batch_ids"]]
    lines += [f"Take it back with `fineflow pairs undo --batch {batch}`." for batch in batches]
    return Result(done, "\n".join(lines))


async def _by_keyboard(client: Client, dataset_id: str, next_pairs: NextPairs) -> Result:
    with Keyboard() as keyboard:
        session = Session(client, dataset_id, next_pairs, keyboard.next_key, keyboard.edit, notes())
        counts = await session.run()
    said = ", ".join(f"{action}: {count}" for action, count in counts.items())
    return Result(counts, said or "Nothing was changed.")


def _riskiest(client: Client, dataset_id: str, condition: Row) -> NextPairs:
    async def pairs(limit: int) -> list[Row]:
        return await calls.riskiest(client, dataset_id, condition, limit=limit)

    return pairs


def _drawn(client: Client, dataset_id: str) -> NextPairs:
    """What is to be judged next of the newest sample."""

    async def pairs(limit: int) -> list[Row]:
        ids = await calls.due_of_sample(client, dataset_id, limit)
        return await calls.pairs_by_id(client, ids)

    return pairs


def _preference(found: Row) -> Group:
    return Group(
        Text.assemble((f"{short(found['pair_id'])}  + ", "bold green"), cell(found["chosen"])),
        Text.assemble(("          - ", "bold red"), cell(found["rejected"])),
    )
