"""Exports without a stack: which pairs leave, in which file, and what is refused on the way."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest

from shared.datasets import export
from shared.datasets.card import card
from shared.datasets.examples import Example
from shared.datasets.export import Choice, Exported, write_export
from shared.datasets.findings import Finding
from shared.datasets.model import Pair
from shared.datasets.reading import read_examples
from shared.errors import InvalidRequest, PayloadTooLarge

EMPTY: dict[str, Any] = {
    "created_at": "2026-11-29T12:00:00+00:00", "kind": "sft", "messages": None, "system_message": None,
    "user_message": None, "assistant_message": None, "rejected_message": None, "is_desirable": None,
    "tools": None, "metadata": {}, "token_count": None, "quality_score": None, "grounding_score": None,
    "is_valid": True, "issues": [], "review_status": "pending", "split": None, "generator": None,
    "document_id": None, "chunk_id": None, "cluster_id": None, "document_name": None, "source_name": None,
}  # fmt: skip
CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"what": "=1+1"}'}}
TALK = [
    {"role": "user", "content": "=HYPERLINK(1)"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "{}", "tool_call_id": "c1", "name": "find"},
    {"role": "assistant", "content": '\'=2\r\nGröße, "🐝"', "weight": 1},
]
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


def row(number: int, **changed: Any) -> dict[str, Any]:
    said = {"user_message": f"-Question {number}?", "assistant_message": f"Answer {number}."}
    place = {"id": str(UUID(int=number)), "ordinal": number}
    return EMPTY | place | (said if "messages" not in changed else {}) | changed


ROWS = [
    row(1, system_message="Be brief."),
    row(2, messages=TALK, tools=[TOOL]),
    row(3, messages=TALK[:1] + TALK[3:]),
    row(4, metadata={"topic": "gates", "marks": [1, 2]}),
]
PREFERENCES = [
    row(5, kind="preference", rejected_message="Worse."),
    row(6, kind="preference", rejected_message="-", system_message="Be brief."),
]
LABELLED = [row(7, kind="kto", is_desirable=False), row(8, kind="kto", is_desirable=True)]


async def pages(*of: Sequence[dict[str, Any]]) -> AsyncIterator[Sequence[dict[str, Any]]]:
    for page in of:
        yield page


async def exported(path: Path, rows: Sequence[dict[str, Any]], **choice: Any) -> Exported:
    """The rows on two pages, exported to the path."""
    return await write_export(pages(rows[:1], rows[1:]), Choice(**choice), path)


def examples(rows: Sequence[dict[str, Any]]) -> list[Example]:
    """What the rows say, without the columns that belong to no turn."""
    return [replace(Pair.from_row(one).as_example(), metadata={}) for one in rows]


@pytest.mark.parametrize("container", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize(
    ("format", "rows"),
    [
        ("openai", ROWS),
        ("sharegpt", [ROWS[0], ROWS[3]]),
        ("alpaca", [ROWS[0], ROWS[3]]),
        ("anthropic", [ROWS[0], ROWS[3]]),
        ("chatml", [ROWS[0], ROWS[3]]),
        ("question_answer", [ROWS[0], ROWS[3]]),
        ("prompt_completion", ROWS),
        ("dpo", PREFERENCES),
        ("openai_preference", PREFERENCES),
        ("sharegpt_preference", PREFERENCES),
        ("kto", LABELLED),
    ],
)
async def test_what_was_exported_is_read_as_the_same_pairs(
    tmp_path: Path, container: str, format: str, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path / f"rows.{container}"
    result = await exported(path, rows, format=format, container=container)
    read = list(read_examples(path))
    assert [one for one in read if isinstance(one, Example)] == examples(rows)
    assert {one.rule for one in read if isinstance(one, Finding)} <= {"formula_escape"}
    assert (result.pair_count, result.byte_size) == (len(rows), path.stat().st_size)
    assert result.bare_count == sum(bool(one["metadata"]) for one in rows)
    again = await exported(tmp_path / "again", rows, format=format, container=container)
    assert again == result


async def test_provenance_stands_beside_the_pair_with_its_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    made = {
        "document_id": str(UUID(int=9)),
        "document_name": "a.md",
        "chunk_ordinal": 3,
        "char_start": 0,
        "char_end": 9,
    }
    known = made | {"generator": "extractive", "prompt_hash": "h", "split": "test"}
    rows = [row(1, **known), row(2, metadata={"topic": "gates", "split": "dev"}, source_name="b.csv")]
    await exported(path, [*rows], format="openai", with_provenance=True)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    about = {"pair_id": str(UUID(int=1)), "review_status": "pending"}
    assert first == {"messages": first["messages"], **known, **about}
    assert (second["topic"], second["source_name"], second["split"]) == ("gates", "b.csv", "dev")
    taken = [row(1, metadata={"tools": "of mine"}), row(2)]
    with pytest.raises(InvalidRequest, match="a column 'tools', which means something else"):
        await exported(path, taken, format="openai", with_provenance=True)


async def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    changed = {"user_message": "=1+1", "assistant_message": "\t@SUM(A1)", "system_message": "'=already"}
    rows = [row(1, **changed), row(2, metadata={"topic": "=gates"})]
    await exported(path, rows, format="alpaca", container="csv", with_provenance=True)
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["instruction"], first["output"], first["system"]) == ("'=1+1", "'\t@SUM(A1)", "''=already")
    assert (second["system"], json.loads(second["metadata"])) == ("", {"topic": "=gates"})
    assert not any(
        cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in (*first.values(), *second.values())
    )


async def test_parquet_keeps_messages_as_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.datasets.containers._BATCH_ROWS", 1)  # each with other columns
    path = tmp_path / "rows.parquet"
    result = await exported(path, ROWS, format="openai", container="parquet", with_provenance=True)
    table = pq.read_table(path).to_pylist()
    assert [[turn["content"] for turn in one["messages"]] for one in table][2] == [
        TALK[0]["content"],
        TALK[3]["content"],
    ]
    assert json.loads(table[1]["messages"][1]["tool_calls"]) == [CALL]
    assert json.loads(table[1]["tools"]) == [TOOL]
    assert [one["metadata"] for one in table] == [None] * 3 + ['{"topic":"gates","marks":[1,2]}']
    assert result == await exported(
        tmp_path / "b", ROWS, format="openai", container="parquet", with_provenance=True
    )
    await exported(path, PREFERENCES, format="dpo", container="parquet")  # one prompt is text, one is a list
    assert [one["prompt"][-1]["content"] for one in pq.read_table(path).to_pylist()] == [
        "-Question 5?",
        "-Question 6?",
    ]


async def test_a_pair_that_is_not_held_is_named_or_counted(tmp_path: Path) -> None:
    mixed = [*ROWS, *PREFERENCES]
    with pytest.raises(InvalidRequest, match="calls of tools") as refused:
        await exported(tmp_path / "a", mixed, format="alpaca")
    assert refused.value.details == {"pairId": str(UUID(int=2)), "ordinal": 2}
    assert "skipUnheld" in refused.value.message
    result = await exported(tmp_path / "a", mixed, format="alpaca", skip_unheld=True)
    assert (result.pair_count, result.skipped_count) == (2, 4)
    assert [one.ordinal for one in result.skipped] == [2, 3, 5, 6]
    with pytest.raises(InvalidRequest, match="kto holds none of the 6 pairs"):
        await exported(tmp_path / "a", mixed, format="kto", skip_unheld=True)


@pytest.mark.parametrize(
    ("choice", "ordinals"),
    [
        ({}, [1, 4, 5]),
        ({"include": "approved"}, [4]),
        ({"include": "all"}, [1, 2, 3, 4, 5]),
        ({"split": "train"}, [1, 5]),
        ({"split": "test", "include": "all"}, [4]),
    ],
)
async def test_the_asked_for_pairs_leave(tmp_path: Path, choice: dict[str, Any], ordinals: list[int]) -> None:
    rows = [
        row(1, split="train"),
        row(2, is_valid=False, split="train"),
        row(3, review_status="rejected"),
        row(4, review_status="approved", split="test"),
        row(5),
    ]
    path = tmp_path / "rows.jsonl"
    await exported(path, rows, format="question_answer", **choice)
    asked = [json.loads(line)["question"] for line in path.read_text().splitlines()]
    assert asked == [f"-Question {ordinal}?" for ordinal in ordinals]


async def test_what_is_too_large_says_how_to_make_it_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_FILE_BYTES", 100)
    with pytest.raises(PayloadTooLarge, match="a split at a time"):
        await exported(tmp_path / "a", ROWS, format="openai")
    with pytest.raises(InvalidRequest, match="None of the 4 pairs of the dataset is approved and kto"):
        await exported(tmp_path / "a", ROWS, format="kto", include="approved", kind="kto")


async def test_the_card_tells_what_is_in_the_file(tmp_path: Path) -> None:
    rows = [row(1, document_name="a<b>.md", generator="gemini", split="train"), row(2, source_name="b.csv")]
    choice = Choice("openai", split="train")
    result = await write_export(pages(rows), choice, tmp_path / "a")
    validation = {"valid": False, "counts": {"empty_message": 1_000}}
    dataset = {"name": 'Gates "north"\n# x', "validation": validation}
    text = card(dataset, choice, result, "openai-1.jsonl")
    head, _, body = text.removeprefix("---\n").partition("---\n")
    assert "license: # fill in" in head
    assert 'pretty_name: "Gates \\"north\\"\\n# x"' in head
    assert 'split: train\n    path: "openai-1.jsonl"' in head
    assert '# Gates "north" \\# x\n' in body
    for line in ("| Pairs | 2 |", "| Splits | none 1, train 1 |", "| Made by | gemini 1, none 1 |"):
        assert line in body
    for line in ("- a\\<b\\>.md", "- b.csv", "Not valid.", "- `empty_message`: 1,000", "Not stated yet."):
        assert line in body


async def test_thoughts_leave_with_the_answers_or_stay_behind(tmp_path: Path) -> None:
    thought = "<think>\nIt is known.\n</think>\n\nAt noon."
    turns = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": thought}]
    rows = [
        row(1, assistant_message=thought),
        row(2, user_message=None, assistant_message=None, messages=turns * 2),
        row(3, kind="preference", assistant_message=thought, rejected_message=thought.replace("noon", "one")),
    ]
    kept, dropped = tmp_path / "kept", tmp_path / "dropped"
    await exported(kept, rows, format="openai", skip_unheld=True)
    await exported(dropped, rows, format="openai", skip_unheld=True, without_reasoning=True)
    assert kept.read_text().count("It is known.") == 3
    assert dropped.read_text() == kept.read_text().replace("<think>\\nIt is known.\\n</think>\\n\\n", "")
    await exported(dropped, rows, format="openai_preference", skip_unheld=True, without_reasoning=True)
    assert "think" not in dropped.read_text()
    assert "At one." in dropped.read_text()
