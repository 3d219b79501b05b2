"""Which chunks a dataset is made from."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from shared.db import PAGE_ROWS, Database, Row
from shared.errors import Conflict, InvalidRequest, NotFound

_MIN_TOKENS = 12  # less is a heading or a line of a table
_DOCUMENTS_A_QUERY = 50  # their ids travel in the address


@dataclass(frozen=True)
class UsableChunk:
    id: str
    token_count: int


async def ready_documents(db: Database, project_id: UUID, document_ids: list[UUID] | None) -> list[str]:
    """The named documents in their order, or all ready ones of the project, oldest first.

    Raises NotFound and Conflict for a named document that is not there or not ready, and InvalidRequest
    when there is none.
    """
    rows = await _documents(db, project_id)
    if document_ids is None:
        found = [row["id"] for row in rows if row["status"] == "ready"]
    else:
        by_id = {row["id"]: row for row in rows}
        found = [_ready(by_id.get(str(document_id)), document_id) for document_id in document_ids]
    if not found:
        raise InvalidRequest(
            "The project has no document that is ready. Upload one and wait until its status is ready.",
            code="no_documents",
        )
    return list(dict.fromkeys(found))


async def usable_chunks(
    db: Database, document_ids: list[str], *, include_flagged: bool = False, min_quality: float | None = None
) -> list[UsableChunk]:
    """The chunks to make pairs from, in reading order: no duplicates, none below `min_quality` (0-1), and
    nothing flagged unless that is asked for.

    Raises InvalidRequest when there is none.
    """
    found: list[UsableChunk] = []
    for start in range(0, len(document_ids), _DOCUMENTS_A_QUERY):
        some = document_ids[start : start + _DOCUMENTS_A_QUERY]
        rows = await _chunks(db, some, min_quality or 0.0)
        rows.sort(key=lambda row: (some.index(row["document_id"]), row["ordinal"]))
        found += [
            UsableChunk(row["id"], row["token_count"])
            for row in rows
            if include_flagged or not row["injection_flags"]
        ]
    if not found:
        raise InvalidRequest(
            "These documents have no text to make pairs from: each chunk is a duplicate, too short, below "
            "minChunkQuality, or flagged as speaking to language models (includeFlagged takes the rest).",
            code="no_chunks",
        )
    return found


def spread(chunks: list[UsableChunk], count: int) -> list[UsableChunk]:
    """At most `count` of them, as evenly over the whole as can be."""
    if count >= len(chunks):
        return chunks
    return [chunks[(2 * i + 1) * len(chunks) // (2 * count)] for i in range(count)]


def _ready(row: Row | None, document_id: UUID) -> str:
    if row is None:
        raise NotFound(f"There is no document {document_id} in this project.", code="document_not_found")
    if row["status"] != "ready":
        raise Conflict(
            f"The document {row['name']} is {row['status']}, not ready.",
            code="document_not_ready",
            details={"documentId": row["id"], "status": row["status"]},
        )
    return str(row["id"])


async def _documents(db: Database, project_id: UUID) -> list[Row]:
    found: list[Row] = []
    while True:
        query = (
            db.table("documents")
            .select("id,name,status,created_at")
            .eq("project_id", str(project_id))
            .order("created_at")
            .order("id")
            .range(len(found), len(found) + PAGE_ROWS - 1)
        )
        rows = (await db.run(query)).data
        found += rows
        if len(rows) < PAGE_ROWS:
            return found


async def _chunks(db: Database, document_ids: list[str], min_quality: float) -> list[Row]:
    """By id in pages, so that one that is added meanwhile shifts no other."""
    found: list[Row] = []
    while True:
        query = (
            db.table("chunks")
            .select("id,document_id,ordinal,token_count,injection_flags")
            .in_("document_id", document_ids)
            .eq("is_duplicate", "false")
            .gte("token_count", _MIN_TOKENS)
            .gte("quality_score", min_quality)
            .order("id")
            .limit(PAGE_ROWS)
        )
        if found:
            query = query.gt("id", found[-1]["id"])
        rows = (await db.run(query)).data
        found += rows
        if len(rows) < PAGE_ROWS:
            return found
