"""Measures of pairs that are not known, computed and stored: tokens, and for pairs from a chunk grounding and
quality, by the formulas of `pairs`.

An edit makes them unknown, and so does an import from elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.datasets.model import Pair
from shared.datasets.reasoning import split_reasoning
from shared.datasets.store import pair_tokens
from shared.db import Database, Row
from shared.generation.pairs import grounding_score, quality_score
from shared.generation.source import SourceChunk

_CHUNKS_AT_ONCE = 40  # ids of an address, and at most ten pairs each


@dataclass(frozen=True)
class _Chunk:
    source: str
    questions: dict[str, str]  # id of each pair of the dataset that was made from it: what it asks


async def remeasured(db: Database, dataset_id: UUID, rows: Sequence[Row]) -> list[Row]:
    """The same rows of `training_pairs` with nothing left unknown that can be told.

    What was computed is stored, except in pairs that were changed since they were read.
    """
    unknown = [row for row in rows if row["token_count"] is None or _is_unscored(row)]
    if not unknown:
        return list(rows)
    chunk_ids = sorted({row["chunk_id"] for row in unknown if _is_unscored(row)})
    chunks: dict[str, _Chunk] = {}
    for begin in range(0, len(chunk_ids), _CHUNKS_AT_ONCE):
        chunks |= await _chunks(db, dataset_id, chunk_ids[begin : begin + _CHUNKS_AT_ONCE])
    measures = await asyncio.to_thread(lambda: [_measures(row, chunks) for row in unknown])
    await db.call("save_pair_measures", dataset_id=str(dataset_id), measures=measures)
    known = {measure["id"]: measure for measure in measures}
    return [row | known.get(row["id"], {}) for row in rows]


def _is_unscored(row: Row) -> bool:
    return row["chunk_id"] is not None and None in (row["grounding_score"], row["quality_score"])


async def _chunks(db: Database, dataset_id: UUID, ids: list[str]) -> dict[str, _Chunk]:
    found = (
        await db.run(
            db.table("chunks").select("id,content,char_start,heading_path,injection_flags").in_("id", ids)
        )
    ).data
    columns = "id,chunk_id,messages,user_message"
    pairs = db.table("training_pairs").select(columns).eq("dataset_id", str(dataset_id)).in_("chunk_id", ids)
    questions: dict[str, dict[str, str]] = defaultdict(dict)
    for row in (await db.run(pairs)).data:
        questions[row["chunk_id"]][row["id"]] = _question(row)
    return {row["id"]: _Chunk(SourceChunk.from_row(row).grounds, questions[row["id"]]) for row in found}


def _question(row: Row) -> str:
    asked = (turn["content"] for turn in row["messages"] or () if turn["role"] == "user")
    return row["user_message"] or next(asked, "")


def _measures(row: Row, chunks: dict[str, _Chunk]) -> dict[str, Any]:
    pair = Pair.from_row(row)
    known = {column: row[column] for column in ("id", "updated_at", "grounding_score", "quality_score")}
    chunk = chunks.get(row["chunk_id"]) if _is_unscored(row) else None
    if chunk is not None:
        said = (split_reasoning(turn.content)[1] for turn in pair.messages if turn.role == "assistant")
        answers = "\n".join(said)
        grounding = row["grounding_score"]
        if grounding is None:
            grounding = grounding_score(answers, chunk.source)
        others = [question for pair_id, question in chunk.questions.items() if pair_id != row["id"]]
        known["grounding_score"] = grounding
        if known["quality_score"] is None:
            known["quality_score"] = quality_score(answers, grounding, pair.question, others)
    return known | {"token_count": pair_tokens(pair)}
