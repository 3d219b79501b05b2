"""How a dataset is to be split: as the call says, else as it was, else as is usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from functions.context import Context
from functions.messages import Request
from shared.datasets.model import Pair
from shared.datasets.pair_split import Grouping, only_document
from shared.datasets.split import SPLITS, Fractions
from shared.db import PAGE_ROWS, Database, Row
from shared.errors import Conflict, InvalidRequest

USUAL_SEED = 42
# How the pairs of the only document are told apart.
Sections = Literal["heading", "chunk"]

_SHARE = Field(default=None, ge=0, le=1, description="Of the pairs. All null: as before, else 0.8, 0.1, 0.1.")


class SplitOptions(Request):
    """What may be asked for."""

    train_fraction: float | None = _SHARE
    validation_fraction: float | None = _SHARE
    test_fraction: float | None = _SHARE
    seed: int | None = Field(default=None, ge=0, le=2**53 - 1, description="null: as before, else 42.")
    group_by: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="A field of the pairs' metadata whose values are not divided, beside their documents.",
    )
    restart: bool = Field(default=False, description="Forget the split before; else pairs keep their part.")
    check: bool = Field(default=False, description="Change nothing, and list what the parts give away.")


@dataclass(frozen=True)
class Plan:
    fractions: Fractions
    seed: int
    grouping: Grouping
    sections: Sections | None  # None: no document is divided

    def as_row(self) -> dict[str, Any]:
        """What of it `training_datasets.split` keeps."""
        document_id = self.grouping.sectioned_document_id
        return {
            "seed": self.seed,
            "fractions": dict(zip(SPLITS, self.fractions.shares, strict=True)),
            "group_by": self.grouping.metadata_field,
            "sections": self.sections,
            "sectioned_document_id": str(document_id) if document_id else None,
        }


async def plan_for(request: SplitOptions, dataset: Row, pairs: Sequence[Pair], context: Context) -> Plan:
    """The plan. Raises InvalidRequest for fractions that are none and a field that no pair has, and Conflict
    for another plan than before where the split is not to be made anew."""
    before: Row = {} if request.restart else dataset["split"] or {}
    fractions = _fractions(request, before)
    seed = request.seed if request.seed is not None else before.get("seed", USUAL_SEED)
    field = request.group_by or before.get("group_by")
    if not request.check:
        _require_the_same(before, fractions, seed, field)
    if field and not any(field in pair.metadata for pair in pairs):
        raise InvalidRequest(f"No pair of the dataset has a {field}.", code="group_by_unknown")
    sectioned = before.get("sectioned_document_id") if before else only_document(pairs)
    if sectioned is None:
        return Plan(fractions, seed, Grouping(field), None)
    document_id = UUID(str(sectioned))
    headings = await _headings(context.service_db, document_id)
    sections: Sections = before.get("sections") or _sections(pairs, headings, len(fractions.wanted))
    section_of = {
        chunk: f"section {heading}" if sections == "heading" else f"chunk {chunk}"
        for chunk, heading in headings.items()
    }
    return Plan(fractions, seed, Grouping(field, document_id, section_of), sections)


def _fractions(request: SplitOptions, before: Row) -> Fractions:
    asked = (request.train_fraction, request.validation_fraction, request.test_fraction)
    if any(share is not None for share in asked):
        return Fractions(*(share or 0 for share in asked))
    return Fractions(**before["fractions"]) if before else Fractions()


def _require_the_same(before: Row, fractions: Fractions, seed: int, field: str | None) -> None:
    now = {"fractions": dict(zip(SPLITS, fractions.shares, strict=True)), "seed": seed, "group_by": field}
    if before and any(before[name] != value for name, value in now.items()):
        raise Conflict(
            "The dataset is split already, with other fractions, another seed or another groupBy. Leave them"
            " out to split what was added, or set restart: then every pair may change its part.",
            code="already_split",
            details={
                "fractions": before["fractions"],
                "seed": before["seed"],
                "groupBy": before["group_by"],
            },
        )


def _sections(pairs: Sequence[Pair], headings: dict[UUID, str], wanted: int) -> Sections:
    """By heading where there are enough of them."""
    seen = {headings[pair.chunk_id] for pair in pairs if pair.chunk_id in headings}
    return "heading" if len(seen) >= wanted else "chunk"


async def _headings(db: Database, document_id: UUID) -> dict[UUID, str]:
    """The headings that each chunk of the document stands under, as one text."""
    found: dict[UUID, str] = {}
    while True:
        query = db.table("chunks").select("id,heading_path").eq("document_id", str(document_id))
        rows = (await db.run(query.order("ordinal").range(len(found), len(found) + PAGE_ROWS - 1))).data
        found |= {UUID(row["id"]): "\n".join(row["heading_path"]) for row in rows}
        if len(rows) < PAGE_ROWS:
            return found
