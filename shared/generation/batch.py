"""One step of a dataset's batch: submitted once, looked at, its answers kept.

The answers go where those of single calls go (answers.py), so that pairs are made of them in the same way.
What has no answer goes into the next batch. What the vendor turns away waits as long as it asks for, and the
rows of batch and dataset say why.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from shared.db import Database, Row
from shared.errors import FineFlowError, InvalidRequest, ProviderRejected, ServiceUnavailable
from shared.generation.answers import answer_row
from shared.generation.source import Generator, SourceChunk
from shared.llm.anthropic import Anthropic
from shared.llm.anthropic_batches import AnthropicBatches
from shared.llm.base import ChatModel, Completion, JsonSchema, TryLater, Turn
from shared.llm.batches import Batches, BatchState
from shared.llm.gemini import Gemini
from shared.llm.gemini_batches import GeminiBatches
from shared.llm.http_model import HttpModel
from shared.llm.openai_batches import OpenAIBatches
from shared.llm.openai_compatible import OpenAICompatible
from shared.log import logger

_LEASE_SECONDS = 300
_MOST_ATTEMPTS = 3  # batches that a chunk is in
_KEPT_AT_ONCE = 16
_SHORTEST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 30.0, 3600.0  # where the vendor asks for less
# Accounts without batches are told to try later too (Google's free tier), so this is where it ends.
_MOST_WAITING_SECONDS = 86_400.0

_log = logger("generation")


def batches_of(client: HttpModel) -> Batches:
    """The batches of the model's vendor. Raises InvalidRequest where we know of none."""
    if isinstance(client, Anthropic):
        return AnthropicBatches(client)
    if isinstance(client, Gemini):
        return GeminiBatches(client)
    if isinstance(client, OpenAICompatible):
        return OpenAIBatches(client)
    raise InvalidRequest(
        f"Batches of {client.generator} are not offered here. Generate without batch.",
        code="batch_not_offered",
    )


async def advance_batch(
    db: Database,
    dataset: Row,
    client: HttpModel,
    generator_around: Callable[[ChatModel], Generator],
    pairs_of: Callable[[int], int],
    *,
    late_seconds: float,
) -> None:
    """The dataset's batch is one step further; where there was none, its open chunks are in a new one.

    A batch that a dead function may have submitted is looked for at the vendor, and submitted again only
    `late_seconds` after that was begun. One that is turned away is left alone for a while; when none was
    taken for a day, the chunks have failed.
    """
    batches = batches_of(client)
    claimed: Row | None = await db.call(
        "claim_generation_batch",
        dataset_id=dataset["id"],
        limit=batches.most_questions,
        lease_seconds=_LEASE_SECONDS,
    )
    if claimed is None or claimed["chunks"] is None:
        return
    step = _Step(
        db,
        dataset,
        client,
        batches,
        claimed["batch"],
        claimed["age_seconds"],
        claimed["tried_seconds"],
        claimed["waited_seconds"],
    )
    try:
        questions = [
            await _question(item, client, generator_around, pairs_of(item["ordinal"]))
            for item in claimed["chunks"]
        ]
        await step.take(questions, late_seconds)
    except TryLater as later:
        await step.wait(later)
    except (AttributeError, KeyError, TypeError, ValueError) as odd:
        _log.warning("batch not understood", batch=step.batch["id"], error=repr(odd)[:300])
        await step.wait(TryLater(f"{client.model} answered about its batch in a way that is not understood."))
    except ServiceUnavailable:
        raise  # our own database: there is nobody to tell
    except FineFlowError as refused:
        await step.end([], {}, refused)


@dataclass(frozen=True)
class _Question:
    """What is asked about one work item."""

    item_id: str
    chunk_id: str
    body: dict[str, Any]
    question_hash: str


@dataclass
class _Step:
    """One batch under its lease."""

    db: Database
    dataset: Row
    client: HttpModel
    batches: Batches
    batch: Row
    age_seconds: float
    tried_seconds: float  # since somebody last began to submit it
    waited_seconds: float  # since the vendor has turned away whoever asked; 0: it goes on

    async def take(self, questions: list[_Question], late_seconds: float) -> None:
        provider_id: str | None = self.batch["provider_batch_id"]
        if provider_id is None:
            await self._submit(questions, late_seconds)
            return
        state = await self.batches.state(provider_id)
        if state.is_ended:
            await self._collect(provider_id, state, questions)
            return
        if self._is_stopped:
            # A refusal may mean that it has just ended: what it has answered is paid, and read next time.
            with contextlib.suppress(ProviderRejected):
                await self.batches.cancel(provider_id)
        await self.save(release=True, last_error=None)

    async def _submit(self, questions: list[_Question], late_seconds: float) -> None:
        provider_id = None
        if self.batch["attempts"] > 0:
            provider_id = await self.batches.find(
                self.batch["id"], len(questions), self.age_seconds, self.batch["not_ours"]
            )
            if provider_id is None and self.tried_seconds < late_seconds:
                await self.save(release=True)  # it may still appear
                return
        if provider_id is None and self._is_stopped:
            await self.end([], {}, None)
            return
        if provider_id is None:
            # Whoever comes next must know that there may be a batch.
            if not await self.save(attempts=1):
                return
            try:
                provider_id = await self.batches.submit(
                    self.batch["id"], {question.item_id: question.body for question in questions}
                )
            except TryLater as later:
                # Too fast: it was turned away, and there is none.
                has_none = later.too_fast and await self.save(attempts=-1)
                if not has_none or self.waited_seconds < _MOST_WAITING_SECONDS:
                    raise
                await self._give_up(later)
                return
        await self.save(status="submitted", provider_batch_id=provider_id, release=True, last_error=None)

    async def _give_up(self, last: TryLater) -> None:
        """Every chunk that waits for a batch has failed, and can be continued without."""
        never = ProviderRejected(
            f"{last.message} No batch was taken for {self.waited_seconds / 3600:.0f} hours: this account may "
            "have none. Continue the dataset without batch (--no-batch).",
            code="batch_turned_away",
        )
        # Else those that are in no batch yet would wait for another day.
        await self.db.call("fail_open_chunks", dataset_id=self.dataset["id"], error=_told(never))
        await self.end([], {}, never)

    async def _collect(self, provider_id: str, state: BatchState, questions: list[_Question]) -> None:
        """Every answer is kept; reading them again keeps and counts nothing twice."""
        by_id = {question.item_id: question for question in questions}
        answered: list[str] = []
        failed: dict[str, dict[str, str]] = {}
        is_ours, is_strange = False, False
        async with _AtOnce(_KEPT_AT_ONCE) as keeping:
            async for item_id, result in self.batches.results(state):
                question = by_id.get(item_id)
                if question is None:
                    is_strange = True
                    continue
                is_ours = True
                if isinstance(result, ProviderRejected):
                    failed[item_id] = {"code": result.code, "message": result.message}
                    continue
                await keeping.begin(self._keep(question, result))
                answered.append(item_id)
        if is_strange and not is_ours:
            await self.save(
                status="intended", provider_batch_id=None, not_ours=provider_id, release=True, last_error=None
            )
            return
        whole = ProviderRejected(state.error, code="batch_failed") if state.error else None
        await self.end(answered, failed, whole)

    async def _keep(self, question: _Question, answer: Completion) -> None:
        row = answer_row(
            self.dataset,
            self.client,
            question.chunk_id,
            question.question_hash,
            answer,
            answer_id=uuid5(UUID(self.batch["id"]), question.item_id),
            in_batch=True,
        )
        await self.db.call("keep_answer", answer=row)

    async def save(self, *, release: bool = False, **changes: Any) -> bool:
        """False: the lease was lost."""
        saved: bool = await self.db.call(
            "save_generation_batch", **self._lease, changes=changes, release=release
        )
        return saved

    async def end(
        self, answered: list[str], failed: dict[str, dict[str, str]], error: FineFlowError | None
    ) -> None:
        await self.db.call(
            "end_generation_batch",
            **self._lease,
            answered=answered,
            failed=failed,
            # What was refused as a whole will be again.
            most_attempts=_MOST_ATTEMPTS if error is None else 1,
            error=None if error is None else _told(error),
        )

    async def wait(self, later: TryLater) -> None:
        """It is left alone for as long as the vendor asked for, and its row says why."""
        await self.save(
            release=True,
            last_error=_told(later),
            wait_seconds=_wait_seconds(later.retry_after_seconds, self.waited_seconds),
        )

    @property
    def _is_stopped(self) -> bool:
        return bool(self.batch["is_stop_known"])

    @property
    def _lease(self) -> dict[str, Any]:
        return {"batch_id": self.batch["id"], "lease_token": self.batch["lease_token"]}


def _told(error: FineFlowError) -> dict[str, str]:
    return {"code": error.code, "message": error.message}


def _wait_seconds(asked: float | None, waited: float) -> float:
    """As long as it has waited so far, from half a minute to an hour, so that waits double; and never less
    than the vendor `asked` for. Up to a tenth more, so that batches come back one by one."""
    wait = min(max(waited, _SHORTEST_WAIT_SECONDS), _LONGEST_WAIT_SECONDS)
    return max(wait, asked or 0) * random.uniform(1, 1.1)


class _AtOnce:
    """So many things at once; all have ended behind it, and the first that failed is told."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: set[asyncio.Task[None]] = set()

    async def begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._begun.add(asyncio.create_task(work))
        if len(self._begun) >= self._most:
            done, self._begun = await asyncio.wait(self._begun, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def __aenter__(self) -> _AtOnce:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        ends = await asyncio.gather(*self._begun, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and error is None:
                raise end


async def _question(
    item: Row, client: HttpModel, generator_around: Callable[[ChatModel], Generator], count: int
) -> _Question:
    ear = _Ear()
    with contextlib.suppress(_Heard):
        await generator_around(ear).draft(SourceChunk.from_row(item), count)
    turns, json_schema = ear.heard
    return _Question(
        item["id"],
        item["chunk_id"],
        client.body(turns, json_schema),
        client.question_hash(turns, json_schema),
    )


class _Heard(Exception):
    """The question is known, and not answered."""


class _Ear:
    """A model that hears what it is asked and says nothing."""

    name, at_once = "ear", 1
    heard: tuple[Sequence[Turn], JsonSchema | None] = ((), None)

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        self.heard = (turns, json_schema)
        raise _Heard

    async def close(self) -> None:
        pass
