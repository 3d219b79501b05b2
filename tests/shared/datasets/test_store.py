"""The file that a trainer reads, out of real rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from devstack.up import Stack
from shared.datasets import store
from shared.datasets.model import Message, Pair
from shared.datasets.store import build_training_file, pair_pages, training_file
from shared.db import Database, http_client
from shared.errors import InvalidRequest
from shared.tokens import count_tokens
from tests.functions.world import World, make_world

SYSTEM, ASKED = Message("system", "Be kind."), Message("user", "Who?")
BETTER, WORSE = Message("assistant", "Nell."), "Nobody that I would tell you about."


def pair(**changed: object) -> Pair:
    made = datetime(2026, 11, 21, tzinfo=UTC)
    return Pair(UUID(int=7), made, 0, (SYSTEM, ASKED, BETTER), token_count=9, **changed)


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


def test_a_preference_is_a_conversation_with_two_ends() -> None:
    file = training_file([pair(kind="preference", rejected=WORSE)], "dpo")
    assert json.loads(file.content) == {
        "input": {"messages": [SYSTEM.as_dict(), ASKED.as_dict()]},
        "preferred_output": [BETTER.as_dict()],
        "non_preferred_output": [{"role": "assistant", "content": WORSE}],
    }
    assert (file.row_count, file.content.count(b"\n")) == (1, 1)
    assert file.sha256 == hashlib.sha256(file.content).hexdigest()
    assert file.token_count == 9 + count_tokens(WORSE)
    assert file.char_count == len("Be kind.Who?Nell." + WORSE)


def test_a_preference_without_a_worse_end_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no rejected answer") as refused:
        training_file([pair()], "dpo")
    assert refused.value.details == {"pairId": str(UUID(int=7))}


async def test_each_method_reads_the_pairs_that_it_learns_from(world: World) -> None:
    dataset = await world.new_dataset(pairs=12)
    world.rows(
        "update public.training_pairs set kind = 'preference', rejected_message = 'worse ' || ordinal"
        " where dataset_id = %s and ordinal < 5",
        dataset,
    )
    world.rows(
        "update public.training_pairs set review_status = 'rejected' where dataset_id = %s and ordinal = 4",
        dataset,
    )
    async with http_client() as http:
        key = world.stack.secret_key
        db = Database(world.stack.url, api_key=key, bearer=key, http=http)
        files = {
            method: await build_training_file(db, UUID(dataset), method) for method in ("full", "lora", "dpo")
        }
    assert {method: file.row_count for method, file in files.items()} == {"full": 7, "lora": 7, "dpo": 4}
    rows = [json.loads(line) for line in files["dpo"].content.splitlines()]
    assert [row["non_preferred_output"][0]["content"] for row in rows] == [f"worse {n}" for n in range(4)]
    assert b"worse" not in files["full"].content


async def test_pages_follow_one_another_whatever_happens_between_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = await world.new_dataset(pairs=30)  # made at one time: their ordinals tell them apart
    world.rows(
        "update public.training_pairs set ordinal = 7 where dataset_id = %s and ordinal between 7 and 9",
        dataset,
    )
    monkeypatch.setattr(store, "PAGE_ROWS", 10)
    seen: list[tuple[int, str]] = []
    async with http_client() as http:
        key = world.stack.secret_key
        db = Database(world.stack.url, api_key=key, bearer=key, http=http)
        async for rows in pair_pages(db, UUID(dataset)):
            if not seen:
                delete = "delete from public.training_pairs where dataset_id = %s and ordinal in (0, 12)"
                world.rows(delete, dataset)
            seen += [(row["ordinal"], row["id"]) for row in rows]
        assert len(seen) == 29
        assert seen == sorted(seen)
        monkeypatch.setattr(store, "PAGE_BYTES", 1_500)  # of rows that have about 700
        pages = [len(rows) async for rows in pair_pages(db, UUID(dataset))]
    assert sum(pages) == 28
    assert set(pages[:-1]) <= {2, 3}
