"""Datasets that only the test works on, with a model on loopback that says the same of the same chunk."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from shared.db import Database, Row, http_client
from shared.generation.answers import KeptAnswers
from shared.generation.language_model import LanguageModelGenerator
from shared.generation.source import Generator
from shared.generation.work import work_on_dataset
from shared.llm.anthropic import Anthropic
from shared.llm.pace import Paced
from tests.fakes.anthropic import MODEL, FakeAnthropic
from tests.functions.world import World

PAIRS_PER_CHUNK = 2


def truthful(body: dict[str, Any]) -> str:
    """An answer that follows from the chunk alone: two of its sentences, asked for."""
    source = body["messages"][0]["content"].split(">\n", 1)[1]
    said = [line for line in source.splitlines() if line.endswith(".")][:PAIRS_PER_CHUNK]
    turns = [
        {"turns": [{"user": f"Is it so that {line[:-1]}?", "assistant": f"Yes: {line}"}], "quote": line}
        for line in said
    ]
    return json.dumps({"examples": turns})


@asynccontextmanager
async def service(world: World) -> AsyncIterator[Database]:
    """The database as the functions see it."""
    async with http_client() as http:
        key = world.stack.secret_key
        yield Database(world.stack.url, api_key=key, bearer=key, http=http)


async def new_dataset(
    db: Database, world: World, *, chunks: int = 3, document: str = "handbook.md", **columns: Any
) -> Row:
    """A dataset that waits for its first chunks to be worked on, and that no event speaks of."""
    generation = {"generator": "anthropic", "model": MODEL, "pairs_per_chunk": PAIRS_PER_CHUNK}
    row = {
        "project_id": world.project,
        "created_by": world.user,
        "name": f"by hand {uuid4().hex[:6]}",
        "mode": "qa",
        "chunk_count": chunks,
        "generation": generation | columns.pop("generation", {}),
    }
    made = await db.insert("training_datasets", row | columns)
    world.rows(
        "insert into public.dataset_chunks (dataset_id, chunk_id, project_id, ordinal)"
        " select %s, k.id, k.project_id, row_number() over (order by k.ordinal) from public.chunks k"
        " join public.documents d on d.id = k.document_id"
        " where d.name = %s and k.project_id = %s order by k.ordinal limit %s",
        made["id"],
        document,
        world.project,
        chunks,
    )
    world.rows("update public.training_datasets set status = 'generating' where id = %s", made["id"])
    return made | {"status": "generating"}


def opener(
    db: Database, dataset: Row, vendor: FakeAnthropic, *, at_once: int = 8
) -> Callable[[], Awaitable[Generator]]:
    async def opened() -> Generator:
        client = Anthropic(MODEL, SecretStr(vendor.api_key), vendor.url)
        fresh = dataset["generation"].get("fresh", False)
        model = KeptAnswers(Paced(client, most_at_once=at_once), client, db, dataset, fresh=fresh)
        return LanguageModelGenerator(model, dataset["mode"], dataset["system_prompt"], b"the test's own")

    return opened


async def work(db: Database, dataset: Row, vendor: FakeAnthropic, *, at_once: int = 8, **options: Any) -> Row:
    """The dataset's row after one call of generate-dataset has worked on it."""
    return await work_on_dataset(db, dataset, opener(db, dataset, vendor, at_once=at_once), **options)


def end_leases(world: World, dataset_id: str) -> None:
    """As if the time of whoever holds chunks were over."""
    world.rows(
        "update public.dataset_chunks set lease_expires_at = now() - interval '1 second'"
        " where dataset_id = %s and status = 'working'",
        dataset_id,
    )


def forget_answers(world: World) -> None:
    world.rows("delete from private.model_answers where project_id = %s", world.project)


def pairs_of(world: World, dataset_id: str) -> list[tuple[Any, ...]]:
    """What was made, without ids and times."""
    return world.rows(
        "select w.ordinal, p.ordinal, p.user_message, p.assistant_message, p.char_start, p.char_end,"
        " p.is_valid, p.issues, p.quality_score, p.grounding_score, p.token_count, p.prompt_hash, p.generator"
        " from public.training_pairs p"
        " join public.dataset_chunks w on w.dataset_id = p.dataset_id and w.chunk_id = p.chunk_id"
        " where p.dataset_id = %s order by 1, 2",
        dataset_id,
    )


def spent(world: World, dataset_id: str) -> tuple[Any, ...]:
    """Prompt tokens, completion tokens and USD on the row of the dataset."""
    (row,) = world.rows(
        "select prompt_tokens, completion_tokens, cost_usd from public.training_datasets where id = %s",
        dataset_id,
    )
    return row
