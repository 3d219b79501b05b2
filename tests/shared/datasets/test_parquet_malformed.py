"""Every way we know to spoil a Parquet file: what is said about it, and where. The other rows are read."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.datasets import parquet_child, parquet_rows
from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.reading import Reading, read_examples
from tests.conftest import Figure

CHAT = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]
LIMITS = Limits(line_bytes=2**12, depth=8, keys=20, messages=6)
QUESTION = {"question": "Q?", "answer": "A."}


class Case(NamedTuple):
    name: str
    good: dict[str, Any]
    bad: dict[str, Any]  # in row 2, between two good ones
    rule: str | None  # None: nothing is found


def content(value: Any) -> dict[str, Any]:
    return {"messages": [CHAT[0], {"role": "assistant", "content": value}]}


LABELLED = {"prompt": "Q?", "completion": "A.", "label": True}
AS_TEXT = {"messages": '[{"role":"user","content":"Q?"},{"role":"assistant","content":"A."}]'}
CASES = [
    Case("a NUL", QUESTION, {"question": "Q\0?", "answer": "A."}, "nul"),
    Case("a NUL in a message", content("A."), content("A\0"), "nul"),
    Case("no question", QUESTION, {"question": None, "answer": "A."}, "not_text"),
    Case("neither", QUESTION, {"question": None, "answer": None}, "not_text"),
    Case("no messages", {"messages": CHAT}, {"messages": None}, "not_a_list"),
    Case("an empty list", {"messages": CHAT}, {"messages": []}, "no_messages"),
    Case("a null in place of a message", {"messages": CHAT}, {"messages": [None]}, "not_a_message"),
    Case("content that is null", content("A."), content(None), "content_missing"),
    Case("a role that is null", {"messages": CHAT}, {"messages": [{"content": "Q?"}]}, "unknown_role"),
    Case("an unknown role", {"messages": CHAT}, {"messages": [{"role": "robot"}]}, "unknown_role"),
    Case("too many messages", {"messages": CHAT}, {"messages": CHAT * 4}, "too_many_messages"),
    Case("a value that is too long", QUESTION, {"question": "Q" * 5000, "answer": "A."}, "line_too_long"),
    Case("a row that is too long", content("A."), content("A" * 5000), "line_too_long"),
    Case("no label", LABELLED, {"prompt": "Q?", "completion": "A.", "label": None}, "label"),
    Case("messages as text", AS_TEXT, AS_TEXT, None),
    Case("messages as text that is no JSON", AS_TEXT, {"messages": "[{"}, "json_syntax"),
    Case("a key twice in messages as text", AS_TEXT, {"messages": '[{"a":1,"a":1}]'}, "duplicate_key"),
    Case("messages as text, too deep", AS_TEXT, {"messages": "[" * 20 + "]" * 20}, "too_deep"),
    Case("NaN in messages as text", AS_TEXT, {"messages": "[NaN]"}, "not_a_number"),
    Case("half a pair in messages as text", AS_TEXT, {"messages": r'["\ud800"]'}, "lone_surrogate"),
    Case("tools that are no JSON", AS_TEXT | {"tools": "[]"}, AS_TEXT | {"tools": "x"}, "json_syntax"),
    Case("a weight of 2", {"messages": [CHAT[0], {**CHAT[1], "weight": 1}]},
         {"messages": [CHAT[0], {**CHAT[1], "weight": 2}]}, "weight"),
    Case("calls that are no JSON", {"messages": [CHAT[0], {**CHAT[1], "tool_calls": "[]"}]},
         {"messages": [CHAT[0], {**CHAT[1], "tool_calls": "f"}]}, "tool_calls"),
    Case("one end of a preference", {"prompt": "Q?", "chosen": "A.", "rejected": "B."},
         {"prompt": "Q?", "chosen": "A.", "rejected": None}, "not_a_list"),
    Case("history of one text", {"instruction": "I", "output": "O", "history": [["a", "b"]]},
         {"instruction": "I", "output": "O", "history": [["a"]]}, "history"),
]  # fmt: skip


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are read by this process, since our own are not dangerous."""
    monkeypatch.setattr(parquet_rows, "is_confined", lambda: True)


def written(path: Path, table: pa.Table, **options: Any) -> Path:
    pq.write_table(table, path, **options)
    return path


def outcome(path: Path, limits: Limits = LIMITS) -> tuple[list[int], list[tuple[str, int | None]]]:
    """The rows of the examples; rule and row of the findings."""
    items = list(read_examples(path, limits))
    examples = [item.line for item in items if isinstance(item, Example)]
    return examples, [(item.rule, item.line) for item in items if isinstance(item, Finding)]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_bad_row_is_named_and_the_others_are_read(case: Case, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([case.good, case.bad, case.good, case.good])
    found = outcome(written(tmp_path / "rows.parquet", table))
    assert found == (([1, 2, 3, 4], []) if case.rule is None else ([1, 3, 4], [(case.rule, 2)]))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda whole: whole[:-1], "broken_parquet"),
        (lambda whole: whole[: len(whole) // 2], "broken_parquet"),
        (lambda whole: whole[:4], "broken_parquet"),
        (lambda whole: whole[:4] + whole[-8:], "broken_parquet"),
        (lambda whole: whole[:-8] + b"\xff\xff\xff\x7fPAR1", "broken_parquet"),
        (lambda whole: whole[:-8] + b"\0\0\0\0PAR1", "broken_parquet"),
        (lambda whole: whole[:-8] + b"\xff\xff\xff\xffPAR1", "broken_parquet"),
        (lambda whole: whole[:4] + bytes(len(whole) - 12) + whole[-8:], "broken_parquet"),
        (lambda whole: whole[:-4] + b"PARE", "broken_parquet"),
        (lambda whole: whole[:4] + b"\xff" * 40 + whole[44:], "broken_parquet"),
        (lambda whole: b"PAR1" + whole, "broken_parquet"),
    ],
)
def test_a_damaged_file_is_named(spoil: Any, rule: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.parquet", pa.table({"question": ["Q?"] * 9, "answer": ["A."] * 9}))
    path.write_bytes(spoil(path.read_bytes()))
    examples, findings = outcome(path)
    assert [found for found, _ in findings] == [rule]
    assert len(examples) < 9


@pytest.mark.usefixtures("here")
def test_a_file_that_says_it_is_too_large_is_not_unpacked(tmp_path: Path) -> None:
    text = "A" * 10_000  # written once, meant a thousand times
    table = pa.table({"question": [text] * 1000, "answer": ["A."] * 1000})
    bomb = written(tmp_path / "bomb.parquet", table, use_dictionary=False, compression="zstd")
    assert bomb.stat().st_size < 100_000
    assert outcome(bomb, Limits(row_group_bytes=2**20)) == ([], [("row_group_too_large", None)])
    assert outcome(bomb, Limits(file_bytes=2**20)) == ([], [("file_too_large", None)])
    # As a dictionary it is small until it is written out, which happens row by row.
    packed = written(tmp_path / "packed.parquet", table)
    examples, findings = outcome(packed)
    assert (examples, len(findings)) == ([], 1000)
    assert set(findings) == {("line_too_long", row) for row in range(1, 1001)}


@pytest.mark.usefixtures("here")
def test_a_list_that_means_one_text_many_times_is_measured_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_child, "_BATCH_BYTES", 2**16)
    bomb = [{"role": "user", "content": "A" * 1000}] * 1000
    rows = [{"messages": CHAT}, {"messages": bomb}, {"messages": CHAT}]
    found = outcome(written(tmp_path / "rows.parquet", pa.Table.from_pylist(rows)))
    assert found == ([1, 3], [("line_too_long", 2)])


@pytest.mark.usefixtures("here")
def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    bad = pa.array([b"Q?", b"Caf\xe9", b"Q?"]).cast(pa.binary()).view(pa.string())
    table = pa.table({"question": bad, "answer": ["A."] * 3})
    assert outcome(written(tmp_path / "rows.parquet", table)) == ([1, 3], [("bad_utf8", 2)])


@pytest.mark.usefixtures("here")
def test_columns_of_all_types_become_what_json_has(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 11, 29, 12, 30, tzinfo=datetime.UTC)
    beside = {
        "none": None, "number": 2**62, "nan": float("nan"), "share": 0.5, "when": when, "day": when.date(),
        "hour": when.time(), "cost": Decimal("1.50"), "took": datetime.timedelta(seconds=90),
        "bytes": b"text", "picture": b"\xff\xd8", "list": [1, None], "record": {"a": 1, "b": None},
    }  # fmt: skip
    table = pa.Table.from_pylist([QUESTION | beside])
    table = table.append_column("map", pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())))
    *examples, warning = read_examples(written(tmp_path / "rows.parquet", table), LIMITS)
    assert [one.metadata for one in examples if isinstance(one, Example)] == [
        {
            "number": 2**62, "share": 0.5, "when": "2026-11-29T12:30:00+00:00", "day": "2026-11-29",
            "hour": "12:30:00", "cost": "1.50", "took": "0:01:30", "bytes": "text", "list": [1, None],
            "record": {"a": 1}, "map": {"k": 1},
        }
    ]  # fmt: skip
    assert isinstance(warning, Finding)
    assert (warning.rule, warning.message) == (
        "binary_column",
        "Column 'picture' holds bytes that are no text; they were left out.",
    )


@pytest.mark.usefixtures("here")
def test_too_many_columns(tmp_path: Path) -> None:
    table = pa.table({f"c{number}": [1] for number in range(21)})
    assert outcome(written(tmp_path / "rows.parquet", table)) == ([], [("too_many_keys", None)])
    assert outcome(written(tmp_path / "rows.parquet", pa.table({"question": []}))) == (
        [],
        [("empty_file", None)],
    )


def test_a_process_of_its_own_reads_the_file(tmp_path: Path) -> None:
    rows = [QUESTION] * 999
    rows.insert(500, {"question": None, "answer": "A."})
    path = written(tmp_path / "rows.bin", pa.Table.from_pylist(rows), row_group_size=300)
    reading = Reading(path, LIMITS, {})
    items = list(reading)
    assert sum(isinstance(item, Example) for item in items) == 999
    assert [(item.rule, item.line) for item in items if isinstance(item, Finding)] == [("not_text", 501)]
    assert reading.detected is not None
    assert reading.detected.evidence == "Parquet: answer, question in 100 of the first 100 rows"


def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "rows.parquet", pa.Table.from_pylist([QUESTION]))
    monkeypatch.setattr(
        parquet_rows, "command", lambda *_: ("sh", "-c", "printf '+{\"a\":1}\\n'; kill -9 $$")
    )
    assert outcome(path) == ([], [("unknown_format", 1), ("broken_parquet", None)])


@pytest.mark.usefixtures("here")
def test_good_files_with_a_few_changes_raise_nothing(tmp_path: Path) -> None:
    chance = random.Random(4)
    path = written(tmp_path / "rows.parquet", pa.Table.from_pylist([{"messages": CHAT} | QUESTION] * 20))
    good = path.read_bytes()
    for _ in range(60):
        spoilt = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            spoilt[chance.randrange(4, len(spoilt))] = chance.randrange(256)
        path.write_bytes(spoilt)
        examples, _ = outcome(path)
        assert len(examples) <= 20


def test_the_table_is_printed(figure: Figure) -> None:
    figure(f"{sum(case.rule is not None for case in CASES)} malformed rows of Parquet, 11 damaged files")
