"""`fineflow docs`: files go in, and are ready once they are cut into chunks."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.live import follow
from cli.backend.lookup import Project, find, newest, project_id
from cli.command import command
from cli.exits import CliError, ExitCode
from cli.screen.documents import document_view, documents_table
from cli.screen.output import Result, cell, notes

app = typer.Typer(no_args_is_help=True, help="Documents that datasets are made from.")

SUFFIXES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".txt": "text/plain",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
MAX_BYTES = 50 * 1024 * 1024  # the limit of the bucket
UPLOADS_AT_ONCE = 4
PATIENCE_SECONDS = 300
SHOWN_CHUNKS = 500


@command(app, "add")
async def add(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="md, txt, html, pdf or docx.")],
    project: Project = None,
    wait: Annotated[bool, typer.Option(help="Wait until the chunks are ready.")] = True,
) -> Result:
    """Upload files and cut them into chunks."""
    files = [checked_file(path) for path in paths]
    async with open_client() as client:
        target = await project_id(client, project)
        documents = await add_documents(client, target, files, wait=wait)
    failed = [document for document in documents if document["status"] == "failed"]
    for document in failed:
        notes().print(cell(f"{document['name']} cannot be used: {failure_of(document)}"))
    return Result(documents, documents_table(documents), ExitCode.FAILED if failed else ExitCode.OK)


@command(app, "list")
async def list_documents(project: Project = None) -> Result:
    """The documents of a project, newest first."""
    async with open_client() as client:
        documents = await newest(client, "documents", await project_id(client, project))
    return Result(documents, documents_table(documents))


@command(app, "show")
async def show(
    document: Annotated[str, typer.Argument(metavar="DOC", help="Name, id, or the beginning of an id.")],
    project: Project = None,
) -> Result:
    """A document and its chunks: how good each is, and what in it seems to speak to a language model."""
    async with open_client() as client:
        target = await project_id(client, project)
        row = await find(client, "documents", target, document, thing="document")
        query = client.supabase.table("chunks").select("*").eq("document_id", row["id"])
        chunks = await client.rows(query.order("ordinal").limit(SHOWN_CHUNKS))
    return Result({**row, "chunks": chunks}, document_view(row, chunks))


def checked_file(path: Path) -> Path:
    """The same path when it can be uploaded. Raises CliError saying why not."""
    problem = None
    if not path.exists():
        problem = "there is no such file"
    elif not path.is_file():
        problem = "it is not a file"
    elif path.suffix.lower() not in SUFFIXES:
        problem = f"only {', '.join(SUFFIXES)} can be read so far"
    elif path.stat().st_size == 0:
        problem = "it is empty"
    elif path.stat().st_size > MAX_BYTES:
        problem = f"it is larger than {MAX_BYTES // 1024**2} MiB"
    if problem:
        raise CliError(f"Cannot use {path}: {problem}.", code="bad_file", exit_code=ExitCode.USAGE)
    return path


async def add_documents(
    client: Client, project: str, paths: Sequence[Path], *, wait: bool = True
) -> list[Row]:
    """The document rows, in the order of `paths`; with `wait` each is ready or failed."""
    slots = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def one(path: Path) -> Row:
        async with slots:
            document = await upload(client, project, path)
            return await _processed(client, document) if wait else document

    return list(await asyncio.gather(*(one(path) for path in paths)))


async def upload(client: Client, project: str, path: Path) -> Row:
    """The file is in storage and its row exists, which sets off the processing."""
    content = await asyncio.to_thread(_read, path)
    document_id = str(uuid4())
    mime_type = SUFFIXES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "text/plain"
    storage_path = f"{project}/{document_id}/{storage_name(path.name)}"
    await client.supabase.storage.from_("documents").upload(
        storage_path, content, {"content-type": mime_type}
    )
    row = {
        "id": document_id,
        "project_id": project,
        "name": path.name[-255:],
        "storage_path": storage_path,
        "mime_type": mime_type,
        "byte_size": len(content),
    }
    return (await client.rows(client.supabase.table("documents").insert(row)))[0]


async def _processed(client: Client, document: Row) -> Row:
    ended = follow(
        client, "documents", str(document["id"]), until=lambda row: row["status"] in ("ready", "failed")
    )
    try:
        processed = await asyncio.wait_for(ended, PATIENCE_SECONDS)
    except TimeoutError:
        name = document["name"]
        raise CliError(f"{name} was uploaded but not processed within {PATIENCE_SECONDS} s.") from None
    return processed


def failure_of(row: Row) -> str:
    """Why a document, dataset or job failed, in one sentence."""
    error = row.get("error") or {}
    return str(error.get("message") or "it failed without saying why")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CliError(f"Cannot read {path}: {reason}.", code="bad_file", exit_code=ExitCode.USAGE) from error


def storage_name(name: str, *, otherwise: str = "document") -> str:
    """A key that hosted Storage accepts; the row keeps the name as the user wrote it."""
    stem, suffix = Path(name).stem, Path(name).suffix.lower()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:80]
    return f"{plain or otherwise}{suffix}"
