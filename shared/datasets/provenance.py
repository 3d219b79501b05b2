"""Where a pair comes from and what became of it, as columns of an export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.db import Row

# Column of the export: column of `training_pairs`, or of the document beside it (see `store.pair_pages`).
PROVENANCE: Mapping[str, str] = {
    "pair_id": "id",
    "document_id": "document_id",
    "document_name": "document_name",
    "chunk_ordinal": "chunk_ordinal",
    "char_start": "char_start",
    "char_end": "char_end",
    "source_name": "source_name",
    "source_line": "source_line",
    "generator": "generator",
    "prompt_hash": "prompt_hash",
    "quality_score": "quality_score",
    "grounding_score": "grounding_score",
    "review_status": "review_status",
    "rating": "rating",
    "is_gold_star": "is_gold_star",
    "split": "split",
}


def provenance_of(row: Row) -> dict[str, Any]:
    """The columns that are known of a row of `training_pairs`; those that are null are left out."""
    known = ((name, row.get(column)) for name, column in PROVENANCE.items())
    return {name: value for name, value in known if value is not None}
