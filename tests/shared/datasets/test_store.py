"""The file that a trainer reads, out of real rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from devstack.up import Stack
from shared.datasets import store, training_rows
from shared.datasets.model import Message, Pair
from shared.datasets.store import build_training_file, pair_pages, training_file
from shared.db import Database, http_client
from shared.errors import InvalidRequest
from shared.tokens import count_tokens
from shared.training.config import METHODS, SUPERVISED, Method
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


def test_a_labelled_answer_keeps_its_label() -> None:
    file = training_file([pair(kind="kto", is_desirable=False)], "kto")
    talk = [SYSTEM.as_dict(), ASKED.as_dict(), BETTER.as_dict()]
    assert json.loads(file.content) == {"messages": talk, "label": False}
    with pytest.raises(InvalidRequest, match="whether its answer is good"):
        training_file([pair()], "kto")


@pytest.mark.parametrize("method", ["full", "dpo", "kto"])
def test_weights_and_tools_are_in_the_file_as_they_were_given(method: Method) -> None:
    """It is what providers get, too."""
    tool = {"type": "function", "function": {"name": "ask", "parameters": {"b": 1, "a": 2}}}
    call = {"id": "1", "type": "function", "function": {"name": "ask", "arguments": '{ "who":1 }'}}
    talk = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "", "tool_calls": [call], "weight": 0},
        {"role": "tool", "content": "Nell", "tool_call_id": "1"},
        {"role": "assistant", "content": "Nell.", "weight": 1},
    ]
    ends = {"dpo": {"rejected": WORSE}, "kto": {"is_desirable": True}}.get(method, {})
    said = replace(pair(**ends), messages=tuple(map(Message.from_dict, talk)), tools=(tool,))
    row = json.loads(training_file([said], method).content)
    assert json.dumps(row.get("input", row)["tools"]) == json.dumps([tool])
    assert row["messages" if method != "dpo" else "input"] == (
        talk if method != "dpo" else {"messages": talk[:-1], "tools": [tool]}
    )
    assert row.get("preferred_output", talk[-1:]) == talk[-1:]


def test_an_embedding_learns_the_first_question_and_its_answer() -> None:
    more = (Message("user", "Why?"), Message("assistant", "Because."))
    file = training_file([replace(pair(), messages=(SYSTEM, ASKED, BETTER, *more))], "embedding")
    assert json.loads(file.content) == {"anchor": "Who?", "positive": "Nell."}
    assert (file.token_count, file.char_count) == (count_tokens("Who?") + count_tokens("Nell."), 9)


READERS = {
    "full": training_rows.conversation,
    "lora": training_rows.conversation,
    "qlora": training_rows.conversation,
    "dpo": training_rows.preference,
    "orpo": training_rows.preference,
    "kto": training_rows.labelled,
    "embedding": training_rows.texts,
}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_is_written_for_a_method_is_what_it_reads(method: Method) -> None:
    file = training_file(
        [
            pair(
                rejected=WORSE if method in ("dpo", "orpo") else None,
                is_desirable=True if method == "kto" else None,
            )
        ],
        method,
    )
    read = {name: reader(file.content.decode()) is not None for name, reader in READERS.items()}
    assert read[method]
    assert {name for name, taken in read.items() if taken} == {
        name for name, reader in READERS.items() if reader is READERS[method]
    } | ({"full", "lora", "qlora"} if method == "kto" else set())  # a label beside a conversation


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        '{"anchor": "a", "positive": " "}',
        '{"anchor": 1, "positive": "b"}',
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "label": 1}',
        '{"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}',
        '{"input": [], "preferred_output": [{}], "non_preferred_output": [{}]}',
        '{"input": {"messages": [{"role": "user", "content": "a"}]},'
        ' "preferred_output": [{"role": "assistant", "content": "b"}],'
        ' "non_preferred_output": [{"role": "user", "content": "c"}]}',
    ],
)
def test_lines_that_no_method_takes(line: str) -> None:
    assert training_rows.preference(line) is None
    assert training_rows.labelled(line) is None
    assert training_rows.texts(line) is None


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
    world.rows(
        "update public.training_pairs set kind = 'kto', is_desirable = ordinal = 5"
        " where dataset_id = %s and ordinal in (5, 6)",
        dataset,
    )
    async with http_client() as http:
        key = world.stack.secret_key
        db = Database(world.stack.url, api_key=key, bearer=key, http=http)
        files = {method: await build_training_file(db, UUID(dataset), method) for method in METHODS}
    counts = {method: file.row_count for method, file in files.items()}
    assert counts == dict.fromkeys(SUPERVISED | {"embedding"}, 5) | {"dpo": 4, "orpo": 4, "kto": 2}
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
                delete = "delete from public.training_pairs where dataset_id = %s and ordinal in (0, 25)"
                world.rows(delete, dataset)
            seen += [(row["ordinal"], row["id"]) for row in rows]
        assert len(seen) == 29
        assert seen == sorted(seen)
        monkeypatch.setattr(store, "PAGE_BYTES", 1_500)  # of rows that have about 700
        pages = [len(rows) async for rows in pair_pages(db, UUID(dataset))]
    assert sum(pages) == 28
    assert set(pages[:-1]) <= {2, 3}
