"""Works through the chunks of a dataset, one claim at a time, until they are done or the time is up.

Each chunk is claimed under a lease and stored in one step, so a call that is killed loses only the
chunks in its hands, and the next call takes them when their leases end. What a model had answered by then
was kept (answers.py), and is not asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.db import APIError, Database, Row
from shared.errors import FineFlowError, NotFound, ProviderUnavailable, ServiceUnavailable
from shared.generation.answers import chunk_in_hand
from shared.generation.choice import Generation
from shared.generation.duplicates import score_dataset
from shared.generation.pairs import make_pairs
from shared.generation.source import Generator, SourceChunk
from shared.llm.base import TryLater
from shared.log import logger

BUDGET_SECONDS = 45.0  # under the 60 s that a row event waits for a function
_LEASE_SECONDS = 300  # longer than the slowest call of a model with its retries
_MAX_ATTEMPTS = 5
_EXTRACTIVE_BATCH = 8
# What one chunk was told holds for all: no use in asking again for each.
_HOPELESS = frozenset(["api_key_missing", "api_key_rejected", "api_key_invalid", "model_missing",
                       "model_not_found", "address_not_public", "quota_used_up",
                       "prompt_invalid"])  # fmt: skip

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
    try:
        await worker.run(_now() + budget_seconds)
    finally:
        if generator is not None:
            await generator.close()
    return await finished(db, dataset_id)


async def finished(db: Database, dataset_id: UUID) -> Row:
    """The dataset's row; with its duplicates marked, and ready or failed, when its generation is over.

    Whoever stores the last chunk sees that none is left, so somebody always comes this far.
    """
    if await db.call("is_generation_over", dataset_id=str(dataset_id)):
        await score_dataset(db, dataset_id)
        dataset: Row | None = await db.call("finish_dataset", dataset_id=str(dataset_id))
    else:
        dataset = await db.find("training_datasets", id=dataset_id)
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
    """What works on one dataset in one call."""

    db: Database
    dataset: Row
    generation: Generation
    generator: Generator | None
    problem: FineFlowError | None  # once set, every further chunk fails with it
    broken: ServiceUnavailable | None = None  # our own database is away: nothing is begun any more

    async def run(self, deadline: float) -> None:
        """Claims and works until nothing is left or the deadline has passed. What is begun is finished."""
        in_hand: set[asyncio.Task[None]] = set()
        is_drained = False
        if self.problem is not None:
            await self._give_up(self.problem)
        try:
            while True:
                if not is_drained and self.broken is None and _now() < deadline:
                    claimed = await self._claim(len(in_hand))
                    # With chunks in hand there may be more afterwards: a cap holds back what these may cost.
                    is_drained = claimed == [] and not in_hand
                    in_hand |= {asyncio.create_task(work) for work in self._works(claimed or [])}
                if not in_hand:
                    break
                done, in_hand = await asyncio.wait(in_hand, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in in_hand:
                task.cancel()
            await asyncio.gather(*in_hand, return_exceptions=True)
        if self.broken is not None:
            raise self.broken

    async def _claim(self, in_hand: int) -> list[Row] | None:
        """As many chunks as can be taken in hand; none: there is nothing to claim. None: no room."""
        at_once = self.generator.at_once if self.generator is not None else 1
        room = at_once - in_hand
        if room <= 0:
            return None
        try:
            claimed: list[Row] = await self.db.call(
                "claim_dataset_chunks",
                dataset_id=self.dataset["id"],
                limit=room if self._asks_a_model else _EXTRACTIVE_BATCH,
                lease_seconds=_LEASE_SECONDS,
            )
        except ServiceUnavailable as error:
            self.broken = error
            return []
        return claimed

    @property
    def _asks_a_model(self) -> bool:
        return self.generation.generator != "extractive"

    def _works(self, claimed: list[Row]) -> list[Coroutine[Any, Any, None]]:
        """A model is waited for, so each chunk goes its own way; the extractive generator only computes."""
        if self._asks_a_model:
            return [self._work(item) for item in claimed]
        return [self._work_in_turn(claimed)] if claimed else []

    async def _work_in_turn(self, items: list[Row]) -> None:
        for item in items:
            await self._work(item)

    async def _work(self, item: Row) -> None:
        """The chunk is done, failed, or waits to be tried again."""
        chunk_in_hand.set(item["chunk_id"])
        try:
            await self._make(item)
        except ServiceUnavailable as error:
            self.broken = error  # there is nobody to tell
        except FineFlowError as error:
            await self._fail(item, error)
            if error.code in _HOPELESS:
                await self._give_up(error)
        except APIError as error:
            _log.warning("pairs not stored", chunk=item["chunk_id"], code=error.code, error=error.message)
            await self._fail(
                item, FineFlowError("The database refused the pairs of this chunk.", code="pairs_not_stored")
            )
        except Exception:  # a fault of ours: it is the chunk's, and not that of all others
            _log.exception("chunk not worked on", chunk=item["chunk_id"])
            await self._fail(item, ProviderUnavailable("An error of the server.", code="internal"))

    async def _make(self, item: Row) -> None:
        if self.generator is None or self.problem is not None:  # found while this chunk was being claimed
            raise self.problem or AssertionError("a worker without a generator has a problem")
        made = await make_pairs(
            SourceChunk.from_row(item),
            self.generator,
            self.generation.quota(item["ordinal"], self.dataset["chunk_count"]),
            system_prompt=self.dataset["system_prompt"],
        )
        # False: the lease was lost, so somebody else stores this chunk.
        await self.db.call("save_chunk_pairs", **_lease(item), pairs=made.pairs, usage=made.usage)

    async def _fail(self, item: Row, error: FineFlowError) -> None:
        try:
            await self.db.call(
                "fail_dataset_chunk",
                **_lease(item),
                error={"code": error.code, "message": error.message},
                retry_seconds=_retry_seconds(error, item["attempts"]),
                was_useless=error.code == "answer_not_understood",
                was_turned_away=_is_turned_away(error),
            )
        except ServiceUnavailable as away:
            self.broken = away

    async def _give_up(self, problem: FineFlowError) -> None:
        """What holds for all chunks is not asked for each: those that nobody has in hand fail with it."""
        self.problem = problem
        try:
            error = {"code": problem.code, "message": problem.message}
            await self.db.call("fail_open_chunks", dataset_id=self.dataset["id"], error=error)
        except ServiceUnavailable as away:
            self.broken = away


def _lease(item: Row) -> dict[str, Any]:
    return {"dataset_chunk_id": item["id"], "lease_token": item["lease_token"]}


def _is_turned_away(error: FineFlowError) -> bool:
    return isinstance(error, TryLater) and error.too_fast


def _retry_seconds(error: FineFlowError, attempts: int) -> int | None:
    """How long a chunk waits before it is tried again; None when that would not help.

    A chunk that was turned away for the rate is never given up: it did nothing wrong.
    """
    if not isinstance(error, ProviderUnavailable):
        return None
    if attempts >= _MAX_ATTEMPTS and not _is_turned_away(error):
        return None
    asked = error.retry_after_seconds
    return min(600, int(asked) + 1) if asked is not None else min(120, 5 * 2**attempts)


def _now() -> float:
    return asyncio.get_running_loop().time()
