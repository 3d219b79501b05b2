"""Keeps every answer of a model before anything is made of it, and finds it again.

Between a call and the row that its answer becomes, a function can die; then the chunk is worked on again,
asks the same question (its marks follow from the chunk, see language_model.py), and finds the answer that was
paid for. What an answer cost is counted in the same step that keeps it: once, also when a chunk is worked on
twice.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from uuid import UUID, uuid4

from shared.db import Database, Row
from shared.llm.base import ChatModel, Completion, JsonSchema, Turn
from shared.llm.http_model import HttpModel

# The chunk that the task in hand works on: what its answers are about.
chunk_in_hand: ContextVar[str | None] = ContextVar("chunk_in_hand", default=None)
_NOT_FOR_POSTGRES = re.compile("[\x00\ud800-\udfff]")


class KeptAnswers:
    """The same model; it is asked what it was not asked before, in this project.

    With `fresh`, answers that other datasets have paid for are not taken; its own always are.
    """

    def __init__(
        self, asked: ChatModel, client: HttpModel, db: Database, dataset: Row, *, fresh: bool = False
    ) -> None:
        self._asked = asked
        self._client = client
        self._db = db
        self._dataset = dataset
        self._fresh = fresh

    @property
    def name(self) -> str:
        return self._asked.name

    @property
    def at_once(self) -> int:
        return self._asked.at_once

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        question_hash = self._client.question_hash(turns, json_schema)
        found: Row | None = await self._db.call(
            "find_answer",
            project_id=self._dataset["project_id"],
            question_hash=question_hash,
            dataset_id=self._dataset["id"] if self._fresh else None,
        )
        if found is not None:
            return Completion(found["answer"], found["prompt_tokens"], found["completion_tokens"])
        answer = await self._asked.complete(turns, json_schema=json_schema)
        answer = replace(answer, text=storable(answer.text))
        # It is paid for: kept also when whoever asked is cancelled meanwhile.
        await asyncio.shield(self._keep(question_hash, answer))
        return answer

    async def close(self) -> None:
        await self._asked.close()

    async def _keep(self, question_hash: str, answer: Completion) -> None:
        row = answer_row(self._dataset, self._client, chunk_in_hand.get(), question_hash, answer)
        await self._db.call("keep_answer", answer=row)


def answer_row(
    dataset: Row,
    client: HttpModel,
    chunk_id: str | None,
    question_hash: str,
    answer: Completion,
    *,
    answer_id: UUID | None = None,
    in_batch: bool = False,
) -> Row:
    """An answer as `keep_answer` takes it; it is counted once for each id."""
    cost_usd = client.cost_usd(answer.prompt_tokens, answer.completion_tokens, in_batch=in_batch)
    return {
        "id": str(answer_id or uuid4()),
        "project_id": dataset["project_id"],
        "dataset_id": dataset["id"],
        "chunk_id": chunk_id,
        "question_hash": question_hash,
        "model": client.name,
        "answer": storable(answer.text),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cost_usd": None if cost_usd is None else str(cost_usd),
    }


def storable(text: str) -> str:
    """The text with a mark in place of what Postgres does not take: NUL and halves of characters."""
    return _NOT_FOR_POSTGRES.sub("\ufffd", text)
