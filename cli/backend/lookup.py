"""From what a user types to the row that is meant."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cli.backend.client import Client, Row
from cli.exits import CliError, ExitCode

DEFAULT_PROJECT_NAME = "My project"
LISTED_ROWS = 200  # newest first; an id may be shortened among these
FULL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT_ID = re.compile(r"[0-9a-f-]{4,35}")

Project = Annotated[
    str | None, typer.Option("--project", "-p", metavar="ID|NAME", help="Default: your first project.")
]


async def project_id(client: Client, wanted: str | None) -> str:
    """The project named `wanted`; with None the oldest one of this user, made when there is none."""
    projects = await client.rows(client.supabase.table("projects").select("id,name").order("created_at"))
    if wanted is None:
        return str(projects[0]["id"]) if projects else await create_project(client, DEFAULT_PROJECT_NAME)
    for project in projects:
        if wanted in (project["id"], project["name"]):
            return str(project["id"])
    names = ", ".join(str(project["name"]) for project in projects) or "none yet"
    raise not_found(f"There is no project {wanted!r}.", f"Your projects: {names}.")


async def create_project(client: Client, name: str) -> str:
    """A new project that this user owns."""
    created = await client.rows(client.supabase.table("projects").insert({"name": name}))
    return str(created[0]["id"])


async def newest(client: Client, table: str, project: str, columns: str = "*") -> list[Row]:
    """The latest rows of a table in a project, newest first, at most LISTED_ROWS."""
    query = client.supabase.table(table).select(columns).eq("project_id", project)
    return await client.rows(query.order("created_at", desc=True).limit(LISTED_ROWS))


async def find(client: Client, table: str, project: str, reference: str, *, thing: str) -> Row:
    """The row with this id, this name (the newest of several), or an id that begins so.

    Raises CliError when there is none, or when a shortened id fits several.
    """
    if FULL_ID.fullmatch(reference):
        query = client.supabase.table(table).select("*").eq("id", reference).limit(1)
        if found := await client.rows(query):
            return found[0]
        raise not_found(f"There is no {thing} {reference}.")
    rows = await newest(client, table, project)
    if named := [row for row in rows if row.get("name") == reference]:
        return named[0]
    if _SHORT_ID.fullmatch(reference):
        if len(matching := [row for row in rows if str(row["id"]).startswith(reference)]) == 1:
            return matching[0]
        if matching:
            raise not_found(f"{len(matching)} {thing}s begin with {reference}.", "Give more of the id.")
    raise not_found(f"There is no {thing} {reference!r} in this project.")


def not_found(message: str, hint: str | None = None) -> CliError:
    return CliError(message, hint=hint, code="not_found", exit_code=ExitCode.USAGE)
