"""Files on their way into pairs: taken up anywhere, they come to the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.datasets.limits import Limits
from shared.imports.file import ImportedFile
from shared.imports.options import ImportOptions, LogChoice


def rows() -> list[Any]:
    """Plain chats, which are read many at a time, and among them what is not plain or not good."""
    made: list[Any] = []
    for number in range(700):
        turns = [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": "Yes."}]
        made.append({"messages": turns})
    made[150]["messages"].reverse()
    made[210] = "no object"
    made[333]["messages"][1]["content"] = " "
    made[334]["messages"][1]["weight"] = 0
    made[400] = {"messages": made[400]["messages"], "shelf": 4}
    made[600]["messages"][1]["content"] = "Write to jane.doe@corp.com."
    return made


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def reading(file: Path, options: ImportOptions, state: dict[str, Any]) -> ImportedFile:
    return ImportedFile(file, options, Limits(), 20, state)


def said(pairs: list[bytes]) -> list[Any]:
    """The pairs without their ids, which are new each time."""
    return [json.loads(pair) | {"id": None} for pair in pairs]


@pytest.mark.parametrize(
    "options",
    [
        ImportOptions(skip_bad_rows=True),
        ImportOptions(skip_bad_rows=True, system_prompt="Be brief.", log=LogChoice(kind="sft")),
    ],
    ids=["rows", "a log under a system prompt"],
)
def test_reading_is_taken_up_at_any_place(file: Path, options: ImportOptions) -> None:
    whole = reading(file, options, {})
    parts = [(pairs, json.loads(json.dumps(whole.state))) for _, pairs in whole.pairs()]
    expected = said([pair for pairs, _ in parts for pair in pairs])
    assert [pair["source_line"] for pair in expected] == [
        n for n in range(1, 701) if n not in (151, 211, 334)
    ]
    assert whole.report()["badRows"] == 3
    assert whole.report()["counts"]["email_address"] == 1
    for place in range(0, len(parts), 11):
        before = [pair for pairs, _ in parts[: place + 1] for pair in pairs]
        rest = reading(file, options, parts[place][1])
        after = [pair for _, pairs in rest.pairs() for pair in pairs]
        assert said(before + after) == expected
        assert rest.report() == whole.report()
        assert rest.state == whole.state


def test_one_bad_row_refuses_all_but_is_not_the_only_one_that_is_told(file: Path) -> None:
    strict = reading(file, ImportOptions(), {})
    assert not strict.is_refused
    assert sum(count for count, _ in strict.pairs()) == 700
    assert strict.is_refused
    assert {error["line"] for error in strict.report()["errors"]} == {151, 211, 334}
