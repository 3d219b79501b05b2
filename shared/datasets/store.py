"""Pairs of a dataset out of the database, in a fixed order, however many there are."""

from __future__ import annotations

import hashlib
from uuid import UUID

from shared.datasets.formats import jsonl
from shared.datasets.model import Pair
from shared.db import PAGE_ROWS, Database
from shared.tokens import count_tokens
from shared.training.files import TrainingFile


async def read_pairs(db: Database, dataset_id: UUID) -> list[Pair]:
    """Every pair of the dataset, in the order in which they were made.

    Pages follow the id, so a pair that is added or deleted meanwhile shifts no other across a border.
    """
    pairs: list[Pair] = []
    while True:
        query = (
            db.table("training_pairs")
            .select(Pair.COLUMNS)
            .eq("dataset_id", str(dataset_id))
            .order("id")
            .limit(PAGE_ROWS)
        )
        if pairs:
            query = query.gt("id", str(pairs[-1].id))
        rows = (await db.run(query)).data
        pairs += [Pair.from_row(row) for row in rows]
        if len(rows) < PAGE_ROWS:
            break
    return sorted(pairs, key=lambda pair: (pair.created_at, pair.ordinal, pair.id))


async def build_training_file(db: Database, dataset_id: UUID) -> TrainingFile:
    """The usable pairs as the file that a trainer reads; row_count 0 when there are none."""
    return training_file([pair for pair in await read_pairs(db, dataset_id) if pair.is_usable])


def training_file(pairs: list[Pair]) -> TrainingFile:
    """`{"messages": [...]}`, one line a pair, in the order given."""
    content = jsonl(pairs, "openai")
    return TrainingFile(
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        row_count=len(pairs),
        token_count=sum(pair_tokens(pair) for pair in pairs),
        char_count=sum(len(message.content) for pair in pairs for message in pair.messages),
    )


def pair_tokens(pair: Pair) -> int:
    """Tokens of all messages together, as counted when the pair was made, else counted now."""
    if pair.token_count is not None:
        return pair.token_count
    return sum(count_tokens(message.content) for message in pair.messages)
