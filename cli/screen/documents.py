"""How documents and their chunks look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from cli.backend.client import Row
from cli.screen.output import cell, facts, moment, short, table

FACTORS = ("length", "vocabulary", "structure", "coherence")


def documents_table(documents: Sequence[Row]) -> RenderableType:
    """One line a document; `flagged`: chunks that seem to speak to a language model."""
    return table(
        ("id", "name", "status", "bytes", "chunks", "flagged", "tokens", "added"),
        (
            (
                short(row["id"]),
                row["name"],
                row["status"],
                row["byte_size"],
                row["chunk_count"],
                row["flagged_chunk_count"] or "-",
                row["token_count"],
                moment(row["created_at"]),
            )
            for row in documents
        ),
        empty="No documents yet. Add one with `fineflow docs add FILE`.",
    )


def document_view(document: Row, chunks: Sequence[Row]) -> RenderableType:
    """The document, then a line a chunk with the factors of its quality, then what was flagged and why."""
    about = facts(
        [
            ("id", document["id"]),
            ("name", document["name"]),
            ("status", document["status"]),
            ("error", (document.get("error") or {}).get("message")),
            ("tokens", document["token_count"]),
            ("chunks", document["chunk_count"]),
            ("flagged", document["flagged_chunk_count"]),
            ("added", moment(document["created_at"])),
        ]
    )
    lines = table(
        ("chunk", "tokens", "quality", *FACTORS, "remarks", "section"),
        (
            (
                chunk["ordinal"],
                chunk["token_count"],
                _share(chunk["quality_score"]),
                *(_share((chunk["quality_factors"] or {}).get(factor)) for factor in FACTORS),
                "duplicate" if chunk["is_duplicate"] else "flagged" if chunk["injection_flags"] else "",
                " > ".join(chunk["heading_path"]),
            )
            for chunk in chunks
        ),
        empty="No chunks.",
    )
    return Group(about, Text(), lines, *(_flagged(chunk) for chunk in chunks if chunk["injection_flags"]))


def _flagged(chunk: Row) -> Text:
    scores = chunk["injection_scores"]
    rules = ", ".join(f"{flag} {scores.get(flag, 1.0):.1f}" for flag in chunk["injection_flags"])
    return Text.assemble(
        "\n",
        (f"Chunk {chunk['ordinal']} seems to speak to a language model ({rules}): ", "yellow"),
        cell(" ".join(chunk["content"].split())[:200]),
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
