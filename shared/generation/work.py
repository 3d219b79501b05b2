"""Works through the chunks of a dataset, one claim at a time, until they are done or the time is up.

Each chunk is claimed under a lease and stored in one step, so a call that is killed loses only the
chunks in its hands, and the next call takes them when their leases end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.db import APIError, Database, Row
from shared.errors import FineFlowError, NotFound, ProviderUnavailable, ServiceUnavailable
from shared.generation.choice import Generation
from shared.generation.duplicates import score_dataset
from shared.generation.pairs import make_pairs
from shared.generation.source import Generator, SourceChunk
from shared.log import logger

BUDGET_SECONDS = 45.0  # under the 60 s that a row event waits for a function
_LEASE_SECONDS = 300  # longer than the slowest call of a model with its retries
_MAX_ATTEMPTS = 5
_MODEL_CALLS_AT_ONCE = 8
_EXTRACTIVE_BATCH = 8
# What one chunk was told holds for all: no use in asking again for each.
_HOPELESS = frozenset(["api_key_missing", "api_key_rejected", "model_missing", "address_not_public"])

_log = logger("generation")


async def work_on_dataset(
    db: Database,
    dataset: Row,
    open_generator: Callable[[], Awaitable[Generator]],
    *,
    budget_seconds: float = BUDGET_SECONDS,
) -> Row:
    """The dataset's row afterwards: ready or failed when no chunk is left, else still generating.

    Takes no new chunk after `budget_seconds`; the sweep of poll-training asks again for the rest.
    """
    dataset_id = UUID(dataset["id"])
    generator, problem = await _opened(open_generator)
    worker = _Worker(db, dataset, Generation.model_validate(dataset["generation"]), generator, problem)
    is_model = worker.generation.generator != "extractive"
    deadline = asyncio.get_running_loop().time() + budget_seconds
    # A model is waited for, so many chunks are in hand; the extractive generator only computes.
    lanes, batch = (_MODEL_CALLS_AT_ONCE, 1) if is_model else (1, _EXTRACTIVE_BATCH)
    try:
        ends = await asyncio.gather(
            *(worker.run(batch, deadline) for _ in range(lanes)), return_exceptions=True
        )
    finally:
        if generator is not None:
            await generator.close()
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return await _finished(db, dataset_id)


async def _finished(db: Database, dataset_id: UUID) -> Row:
    """The dataset's row; with its duplicates marked, and ready or failed, when no chunk is left to work on.

    Whoever stores the last chunk sees that none is left, so somebody always comes this far.
    """
    query = db.table("dataset_chunks").select("id").eq("dataset_id", str(dataset_id))
    if (await db.run(query.in_("status", ["pending", "working"]).limit(1))).data:
        dataset = await db.find("training_datasets", id=dataset_id)
    else:
        await score_dataset(db, dataset_id)
        dataset = await db.call("finish_dataset", dataset_id=str(dataset_id))
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id} any more.", code="dataset_not_found")
    return dataset


async def _opened(
    open_generator: Callable[[], Awaitable[Generator]],
) -> tuple[Generator | None, FineFlowError | None]:
    try:
        return await open_generator(), None
    except FineFlowError as error:
        return None, error


@dataclass
class _Worker:
    """What the lanes of one call share."""

    db: Database
    dataset: Row
    generation: Generation
    generator: Generator | None
    problem: FineFlowError | None  # once set, every further chunk fails with it

    async def run(self, batch: int, deadline: float) -> None:
        """Claims and works until nothing is left or the deadline has passed."""
        while asyncio.get_running_loop().time() < deadline:
            claimed: list[Row] = await self.db.call(
                "claim_dataset_chunks",
                dataset_id=self.dataset["id"],
                limit=batch,
                lease_seconds=_LEASE_SECONDS,
            )
            if not claimed:
                return
            for item in claimed:
                await self._work(item)

    async def _work(self, item: Row) -> None:
        """The chunk is done, failed, or waits to be tried again."""
        try:
            await self._make(item)
        except ServiceUnavailable:
            raise  # our own database: there is nobody to tell
        except FineFlowError as error:
            if error.code in _HOPELESS:
                self.problem = error
            await self._fail(item, error.code, error.message, _retry_seconds(error, item["attempts"]))
        except APIError as error:
            _log.warning("pairs not stored", chunk=item["chunk_id"], code=error.code, error=error.message)
            await self._fail(item, "pairs_not_stored", "The database refused the pairs of this chunk.", None)

    async def _make(self, item: Row) -> None:
        if self.generator is None or self.problem is not None:
            raise self.problem or AssertionError("a worker without a generator has a problem")
        made = await make_pairs(
            SourceChunk.from_row(item),
            self.generator,
            self.generation.quota(item["ordinal"], self.dataset["chunk_count"]),
            system_prompt=self.dataset["system_prompt"],
        )
        # False: the lease was lost, so somebody else stores this chunk.
        await self.db.call("save_chunk_pairs", **_lease(item), pairs=made.pairs, usage=made.usage)

    async def _fail(self, item: Row, code: str, message: str, retry_seconds: int | None) -> None:
        error = {"code": code, "message": message}
        await self.db.call("fail_dataset_chunk", **_lease(item), error=error, retry_seconds=retry_seconds)


def _lease(item: Row) -> dict[str, Any]:
    return {"dataset_chunk_id": item["id"], "lease_token": item["lease_token"]}


def _retry_seconds(error: FineFlowError, attempts: int) -> int | None:
    """How long a chunk waits before it is tried again; None when that would not help."""
    if not isinstance(error, ProviderUnavailable) or attempts >= _MAX_ATTEMPTS:
        return None
    asked = (error.details or {}).get("retryAfterSeconds")
    return min(600, int(asked) + 1) if asked is not None else min(120, 5 * 2**attempts)
