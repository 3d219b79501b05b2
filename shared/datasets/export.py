"""Chosen pairs of a dataset as one file, page by page: written here first, so that nobody sees half of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import UUID

from shared.datasets.containers import OWN_COLUMNS, Container, write_container
from shared.datasets.formats import record
from shared.datasets.model import Kind, Pair, SplitName
from shared.datasets.provenance import provenance_of
from shared.datasets.reasoning import without_reasoning
from shared.datasets.writing import line_of
from shared.db import Row
from shared.errors import InvalidRequest, PayloadTooLarge

Include = Literal["approved", "usable", "all"]
MAX_FILE_BYTES = 100 * 2**20  # of the bucket `exports`, and what OpenAI takes
_MAX_DRAFT_BYTES = 2**30  # of JSONL on the way to a table, which is smaller
_LISTED = 20


@dataclass(frozen=True)
class Choice:
    """Which pairs, and how they are written. None: whatever split, whatever kind."""

    format: str  # one of writing.FORMATS
    container: Container = "jsonl"
    include: Include = "usable"
    split: SplitName | None = None
    kind: Kind | None = None
    with_provenance: bool = False  # with the columns of provenance and the pair's own
    skip_unheld: bool = False  # what the format cannot hold is left out and counted
    without_reasoning: bool = False  # answers alone, not what was thought before them

    def takes(self, pair: Pair) -> bool:
        if self.include == "usable" and not pair.is_usable:
            return False
        if self.include == "approved" and not (pair.is_valid and pair.review_status == "approved"):
            return False
        # A pair that was not split is trained on.
        return self.kind in (None, pair.kind) and self.split in (None, pair.split or "train")


@dataclass(frozen=True)
class Skipped:
    """A pair that was left out. ordinal: its place in the dataset, from 1."""

    pair_id: UUID
    ordinal: int
    reason: str


@dataclass
class Exported:
    """What lies in the file, and what was counted on the way."""

    pair_count: int = 0
    byte_size: int = 0
    sha256: str = ""
    skipped_count: int = 0
    skipped: list[Skipped] = field(default_factory=list)  # the first twenty
    bare_count: int = 0  # pairs with columns of their own, which were left out
    kinds: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)  # 'none': not split
    reviews: Counter[str] = field(default_factory=Counter)
    generators: Counter[str] = field(default_factory=Counter)  # 'none': no model made the pair
    documents: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)

    def add(self, row: Row) -> None:
        self.pair_count += 1
        self.kinds[row["kind"]] += 1
        self.splits[row["split"] or "none"] += 1
        self.reviews[row["review_status"]] += 1
        self.generators[row["generator"] or "none"] += 1
        self.documents |= {row["document_name"]} - {None}
        self.files |= {row["source_name"]} - {None}


async def write_export(pages: AsyncIterator[Sequence[Row]], choice: Choice, target: Path) -> Exported:
    """`target` is the file; equal pairs give equal bytes.

    Raises InvalidRequest when there is no such pair or when one cannot be held, and PayloadTooLarge.
    """
    draft = target if choice.container == "jsonl" else target.with_suffix(".draft")
    exported = Exported()
    ordinal = 0
    with draft.open("wb") as file:
        async for rows in pages:
            await asyncio.to_thread(_write_page, rows, ordinal, choice, file, exported)
            ordinal += len(rows)
    if exported.pair_count == 0:
        raise InvalidRequest(_nothing(choice, ordinal, exported), code="dataset_empty")
    await asyncio.to_thread(_finish, draft, target, choice.container, exported)
    return exported


def _write_page(rows: Sequence[Row], before: int, choice: Choice, file: BinaryIO, exported: Exported) -> None:
    for ordinal, row in enumerate(rows, start=before + 1):
        pair = Pair.from_row(row)
        if not choice.takes(pair):
            continue
        try:
            file.write(_line(without_reasoning(pair) if choice.without_reasoning else pair, row, choice))
        except InvalidRequest as refused:
            if not choice.skip_unheld:
                place = {"pairId": str(pair.id), "ordinal": ordinal}
                message = f"{refused.message} Or leave such pairs out with skipUnheld."
                raise InvalidRequest(message, code=refused.code, details=place) from None
            exported.skipped_count += 1
            if len(exported.skipped) < _LISTED:
                exported.skipped.append(Skipped(pair.id, ordinal, refused.message))
            continue
        exported.add(row)
        exported.bare_count += bool(pair.metadata) and not choice.with_provenance
    limit = MAX_FILE_BYTES if choice.container == "jsonl" else _MAX_DRAFT_BYTES
    if file.tell() > limit:
        raise _too_large(file.tell(), limit)


def _finish(draft: Path, target: Path, container: Container, exported: Exported) -> None:
    if container != "jsonl":
        write_container(draft, target, container)
        draft.unlink()
    exported.byte_size = target.stat().st_size
    if exported.byte_size > MAX_FILE_BYTES:
        raise _too_large(exported.byte_size, MAX_FILE_BYTES)
    with target.open("rb") as file:
        exported.sha256 = hashlib.file_digest(file, "sha256").hexdigest()


def _line(pair: Pair, row: Row, choice: Choice) -> bytes:
    if not choice.with_provenance:
        written = record(pair, choice.format)
    else:
        beside = provenance_of(row)
        if choice.container == "jsonl":
            beside = {**pair.metadata, **beside}
        elif pair.metadata:
            beside |= {OWN_COLUMNS: line_of(pair.metadata).decode().rstrip()}
        written = record(replace(pair, metadata=beside), choice.format, with_metadata=True)
    return line_of(written)


def _nothing(choice: Choice, pair_count: int, exported: Exported) -> str:
    if exported.skipped_count:
        why = exported.skipped[0].reason
        return f"{choice.format} holds none of the {exported.skipped_count:,} pairs: {why}"
    asked = [choice.include, *filter(None, (choice.kind, choice.split))]
    return f"None of the {pair_count:,} pairs of the dataset is {' and '.join(asked)}: nothing to export."


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The export has {size:,} bytes or more; {limit:,} are allowed. Export a split at a time, only what"
        " is approved, or as Parquet, which is several times smaller.",
        details={"byteSize": size, "limitBytes": limit},
    )
