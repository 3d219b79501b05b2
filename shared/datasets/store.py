"""Pairs of a dataset out of the database, in a fixed order, however many there are."""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from shared.datasets.formats import anchor_and_positive, labelled, preference, record
from shared.datasets.model import Kind, Pair
from shared.datasets.writing import line_of
from shared.db import PAGE_ROWS, Database, Row
from shared.tokens import count_tokens
from shared.training.files import TrainingFile

# What each method learns from, and how a pair is written for it. The others: 'sft', as messages.
_KINDS: dict[str, Kind] = {"dpo": "preference", "orpo": "preference", "kto": "kto"}
_WRITERS: dict[str, Callable[[Pair], dict[str, Any]]] = {
    "dpo": preference,
    "orpo": preference,
    "kto": labelled,
    "embedding": anchor_and_positive,
}
PAGE_BYTES = 8 * 2**20  # of JSON; a page ends with the row that reaches it


async def pair_pages(db: Database, dataset_id: UUID) -> AsyncIterator[list[Row]]:
    """Rows of `training_pairs` in the order in which they were made, a page at a time; none is empty.

    Beside its columns each has document_name and chunk_ordinal; None: not from a document, or it is gone.
    A page follows the last row before it, so a pair that is added or deleted meanwhile shifts no other
    across a border. One page is fetched while the one before it is worked on.
    """

    def after(row: Row | None) -> asyncio.Task[list[Row]]:
        place = row and {column: row[column] for column in ("created_at", "ordinal", "id")}
        page = {"dataset_id": str(dataset_id), "after": place, "limit": PAGE_ROWS, "bytes": PAGE_BYTES}
        return asyncio.create_task(db.call("page_of_pairs", **page))

    following = after(None)
    try:
        while rows := await following:
            following = after(rows[-1])
            yield rows
    finally:
        following.cancel()


async def read_pairs(db: Database, dataset_id: UUID) -> list[Pair]:
    """Every pair of the dataset, in the order in which they were made."""
    return [Pair.from_row(row) async for rows in pair_pages(db, dataset_id) for row in rows]


async def build_training_file(db: Database, dataset_id: UUID, method: str = "full") -> TrainingFile:
    """The usable pairs that this method learns from, as the file that a trainer reads; those held out apart.

    A pair that was not split is one of train; pairs of the part test are in neither file. dpo and orpo learn
    from pairs of kind 'preference', kto from those of kind 'kto', the other methods from those of kind 'sft'.
    row_count is 0 when there are none.
    """
    trained, held_out = _FileDraft(method), _FileDraft(method)

    def take(rows: list[Row]) -> None:
        for pair in map(Pair.from_row, rows):
            if is_learned(pair, method) and pair.split != "test":
                (trained if is_trained(pair) else held_out).add(pair)

    async for rows in pair_pages(db, dataset_id):
        await asyncio.to_thread(take, rows)
    file = await asyncio.to_thread(trained.file)
    if not held_out.lines:
        return file
    return replace(file, validation=await asyncio.to_thread(held_out.file))


def is_learned(pair: Pair, method: str) -> bool:
    """Whether this method learns from such pairs: it is usable, and of the method's kind."""
    return pair.is_usable and pair.kind == _KINDS.get(method, "sft")


def is_trained(pair: Pair) -> bool:
    """Whether the pair is in the part that is trained on; one that was not split is."""
    return pair.split in (None, "train")


def training_file(pairs: Iterable[Pair], method: str = "full") -> TrainingFile:
    """One line a pair, in the order given, in the shape that `training_rows` reads for this method."""
    draft = _FileDraft(method)
    for pair in pairs:
        draft.add(pair)
    return draft.file()


def training_line(pair: Pair, method: str) -> bytes:
    """The pair as a line of a training file. Raises InvalidRequest when it cannot be one."""
    return line_of(_WRITERS.get(method, _messages)(pair))


@dataclass
class _FileDraft:
    """A training file that grows line by line; of a pair nothing else is kept."""

    method: str
    lines: list[bytes] = field(default_factory=list)
    row_tokens: array[int] = field(default_factory=lambda: array("I"))
    char_count: int = 0
    pairs_of_document: dict[UUID, list[UUID]] = field(default_factory=dict)

    def add(self, pair: Pair) -> None:
        self.lines.append(training_line(pair, self.method))
        self.row_tokens.append(_trained_tokens(pair, self.method))
        self.char_count += sum(map(len, _texts(pair, self.method)))
        if pair.document_id is not None:
            self.pairs_of_document.setdefault(pair.document_id, []).append(pair.id)

    def file(self) -> TrainingFile:
        content = b"".join(self.lines)
        return TrainingFile(
            content=content,
            sha256=hashlib.sha256(content).hexdigest(),
            row_count=len(self.lines),
            token_count=sum(self.row_tokens),
            char_count=self.char_count,
            row_tokens=self.row_tokens,
            longest_row_tokens=max(self.row_tokens, default=None),
            pairs_of_document=self.pairs_of_document,
        )


def _messages(pair: Pair) -> dict[str, Any]:
    return record(pair, "openai")


def _texts(pair: Pair, method: str) -> list[str]:
    if method == "embedding":
        return list(anchor_and_positive(pair).values())
    return [*(message.content for message in pair.messages), pair.rejected or ""]


def _trained_tokens(pair: Pair, method: str) -> int:
    if method == "embedding":
        return sum(map(count_tokens, _texts(pair, method)))
    return pair_tokens(pair) + count_tokens(pair.rejected or "")


def pair_tokens(pair: Pair) -> int:
    """Tokens of all messages together, without a rejected one: as counted when the pair was made, or now."""
    if pair.token_count is not None:
        return pair.token_count
    return sum(count_tokens(message.content) for message in pair.messages)
