"""`fineflow docs reach`, `withdraw` and `restore`: what came of a document, and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer
from rich.console import Group, RenderableType

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import FULL_ID, Project, find, not_found, project_id
from cli.command import command
from cli.screen.output import Result, cell, facts, moment, notes, short, table

app = typer.Typer()

DocumentName = Annotated[
    str, typer.Argument(metavar="DOC", help="Name, id, or the beginning of an id; of a deleted one the id.")
]
SHOWN = 20


@command(app, "reach")
async def reach(document: DocumentName, project: Project = None) -> Result:
    """The pairs, datasets, jobs, models and names that came of a document."""
    async with open_client() as client:
        answer = await _call(client, "document_reach", document, project)
    return Result(answer, _view(answer))


@command(app, "withdraw")
async def withdraw(
    document: DocumentName,
    reason: Annotated[str | None, typer.Option(help="Kept with the withdrawal.")] = None,
    project: Project = None,
) -> Result:
    """Use nothing of a document any more, and list what was trained on it."""
    async with open_client() as client:
        answer = await _call(client, "withdraw_document", document, project, p_reason=reason)
    running = [
        job for job in answer["jobs"] if job["status"] in ("uploading", "validating", "queued", "training")
    ]
    for job in running:
        notes().print(
            cell(f"A job was given it: `fineflow jobs cancel {short(job['id'])}` stops {job['model_name']}.")
        )
    return Result(answer, _view(answer))


@command(app, "restore")
async def restore(document: DocumentName, project: Project = None) -> Result:
    """Use a withdrawn document and its pairs again."""
    async with open_client() as client:
        answer = await _call(client, "restore_document", document, project)
    return Result(answer, _view(answer))


async def _call(
    client: Client, function: str, reference: str, project: str | None, **arguments: Any
) -> dict[str, Any]:
    document_id = reference
    if not FULL_ID.fullmatch(reference):
        target = await project_id(client, project)
        document_id = str((await find(client, "documents", target, reference, thing="document"))["id"])
    asked = {"p_document_id": document_id, **arguments}
    answer: Any = (await client.supabase.rpc(function, asked).execute()).data
    if answer is None:
        raise not_found(f"There is no document {reference}.")
    return cast(dict[str, Any], answer)


def _view(answer: dict[str, Any]) -> RenderableType:
    document, withdrawal = answer["document"], answer["withdrawal"] or {}
    usable = sum(dataset["usable_pair_count"] for dataset in answer["datasets"])
    said = [
        ("document", f"{document['name']} ({short(document['id'])}), {document['status']}"),
        ("withdrawn", moment(withdrawal["withdrawn_at"]) if withdrawal else None),
        ("reason", withdrawal.get("reason")),
        ("chunks", len(answer["chunks"])),
        ("pairs", f"{len(answer['pairs'])}, {usable} of them in use"),
        ("chunks elsewhere that say the same", len(answer["near_duplicates"])),
    ]
    models = {model["id"]: f"{model['name']}:{model['version']}" for model in answer["models"]}
    reached = [
        *_rows(
            "dataset",
            answer["datasets"],
            lambda row: f"{row['name']}, {row['usable_pair_count']} pairs in use",
        ),
        *_rows("job", answer["jobs"], lambda row: f"{row['model_name']}, {len(row['pair_ids'])} pairs"),
        *_rows("model", answer["models"], lambda row: models[row["id"]] + _from(row, models)),
        *_rows(
            "deployment",
            answer["deployments"],
            lambda row: f"{row['name']}, {row['slot']}: {models[row['model_id']]}",
        ),
    ]
    columns = ("", "id", "what", "status")
    return Group(facts(said), cell(""), table(columns, reached, empty="It reached no dataset and no model."))


def _rows(kind: str, rows: Sequence[Row], what: Any) -> list[tuple[object, ...]]:
    shown = [(kind, short(row["id"]), what(row), row["status"] or "deleted") for row in rows[:SHOWN]]
    more = len(rows) - SHOWN
    return [*shown, *([(kind, "", f"and {more} more; --json has them all", "")] if more > 0 else [])]


def _from(model: Row, names: dict[str, str]) -> str:
    origin = model["from_model_id"]
    return f", trained on from {names[origin]}" if origin else ""
