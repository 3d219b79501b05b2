"""Our own split gives nothing away, and stays as it is when rows are appended."""

import random
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.datasets.leaks import Leak, Place, find_leaks
from shared.datasets.model import SplitName
from shared.datasets.rows import PlainRow, read_rows
from shared.datasets.split import SPLITS, Fractions, content_hash, split_rows
from shared.errors import InvalidRequest
from tests.shared.datasets.planted import edited, rows_of, sentence, text_row

THREE = Fractions()


def leaks_of(rows: list[PlainRow], of_row: list[SplitName]) -> list[Leak]:
    parts = {name: [row for row, at in zip(rows, of_row, strict=True) if at == name] for name in SPLITS}
    return list(find_leaks(list(parts.values())))


@given(
    seed=st.integers(0, 2**32),
    clusters=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=25),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_nothing_leaks_and_no_group_is_divided(
    seed: int, clusters: list[tuple[int, int]], shuffle: random.Random
) -> None:
    rows = rows_of(random.Random(seed), clusters)
    shuffle.shuffle(rows)
    found = split_rows(rows, THREE, seed)
    assert leaks_of(rows, found.of_row) == []
    assert all(found.of_row[first] == at for first, at in zip(found.groups, found.of_row, strict=True))
    groups = len(set(found.groups))
    assert sum(count > 0 for count in found.counts.values()) >= min(3, groups)


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(1, 3), min_size=4, max_size=30), data=st.data())
@settings(max_examples=60, deadline=None)
def test_rows_that_are_appended_move_no_other(seed: int, sizes: list[int], data: st.DataObject) -> None:
    rng = random.Random(seed)
    rows = rows_of(rng, [(size, 0) for size in sizes])
    known = data.draw(st.integers(1, len(rows)))
    earlier = split_rows(rows[:known], THREE, seed)
    later = split_rows(rows, THREE, seed)
    assert later.of_row[:known] == earlier.of_row


def test_a_row_like_two_groups_brings_the_later_to_the_earlier() -> None:
    rng = random.Random(3)
    left, right = sentence(rng, 60), sentence(rng, 60)
    others = [text_row(" ".join(sentence(rng, 50))) for _ in range(40)]
    apart = [*others, text_row(" ".join(left), "a"), text_row(" ".join(right), "b")]
    bridge = text_row(" ".join(left[:-1]), "b")
    for seed in range(20):
        before, after = split_rows(apart, THREE, seed), split_rows([*apart, bridge], THREE, seed)
        assert after.of_row[:-2] == before.of_row[:-1]
        assert after.of_row[-2] == after.of_row[-1] == before.of_row[-2]


def test_large_sets_come_near_the_fractions_and_seeds_differ() -> None:
    rows = [text_row(f"row {number} says {number * 7} and then {number * 13}") for number in range(4000)]
    found = split_rows(rows, Fractions(0.7, 0.2, 0.1), 1)
    for name, share in zip(SPLITS, (0.7, 0.2, 0.1), strict=True):
        assert found.counts[name] / 4000 == pytest.approx(share, abs=0.03)
    assert split_rows(rows, Fractions(0.7, 0.2, 0.1), 2).of_row != found.of_row
    assert split_rows(rows, Fractions(0.7, 0.2, 0.1), 1) == found


@pytest.mark.parametrize(
    ("rows", "fractions", "filled"),
    [
        (0, THREE, set()),
        (1, THREE, {"train"}),
        (2, THREE, {"train", "validation"}),
        (3, THREE, {"train", "validation", "test"}),
        (10, THREE, {"train", "validation", "test"}),
        (10, Fractions(0.9, 0.1, 0), {"train", "validation"}),
        (3, Fractions(1, 0, 0), {"train"}),
    ],
)
def test_small_sets_fill_what_they_can(rows: int, fractions: Fractions, filled: set[str]) -> None:
    texts = [text_row(f"number {row * 31} of many {row * 17} things {row}") for row in range(rows)]
    for seed in range(30):
        counts = split_rows(texts, fractions, seed).counts
        assert {name for name, count in counts.items() if count} == filled


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (1.1, -0.1, 0), (0, 0, 0), (float("nan"), 0.5, 0.5)])
def test_fractions_that_are_none_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidRequest, match="add up to 1"):
        Fractions(*shares)


def test_each_planted_leak_is_named_by_both_lines() -> None:
    rng = random.Random(11)
    train = [text_row(" ".join(sentence(rng, 60)), line=line) for line in range(1, 201)]
    train[9] = text_row("What is the tide? Twelve hours.", "tides", line=10)
    validation = [text_row(" ".join(sentence(rng, 60)), line=line) for line in range(1, 41)]
    validation[4] = text_row(train[0].text.upper(), line=5)
    validation[5] = text_row("When does the ferry leave? At noon, always.", "tides", line=6)
    for number in range(10, 30):  # each a paraphrase of 1 to 3 words
        words = edited(rng, train[number + 20].text.split(), 1 + number % 3)
        validation[number] = text_row(" ".join(words), line=number + 1)
    found = list(find_leaks([train, validation]))
    assert found[0] == Leak("exact", Place(0, 1), Place(1, 5), 1.0)
    assert (found[-1].kind, found[-1].first, found[-1].second) == ("source", Place(0, 10), Place(1, 6))
    near = {(leak.first.line, leak.second.line) for leak in found if leak.kind == "near"}
    assert near == {(number + 21, number + 1) for number in range(10, 30)}


def test_the_content_hash_follows_rows_and_places_but_not_their_order() -> None:
    rows: list[tuple[SplitName, bytes]] = [("train", b"a"), ("train", b"b"), ("test", b"c")]
    assert content_hash(rows) == content_hash(rows[::-1])
    assert content_hash(rows) != content_hash([*rows[:2], ("validation", b"c")])
    assert content_hash(rows) != content_hash([*rows, ("test", b"c")])


@pytest.mark.parametrize(
    ("row", "text", "source"),
    [
        (
            {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]},
            "Hi",
            None,
        ),
        ({"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}]}, "Q", None),
        ({"instruction": "I", "input": "", "output": "O", "document_id": "d1"}, "I\n\nO", "d1"),
        ({"prompt": "P", "completion": "C", "metadata": {"doc_id": 7, "note": "n"}}, "P\nC", "7"),
    ],
)
def test_rows_of_any_format(tmp_path: Path, row: object, text: str, source: str | None) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\r\n" + orjson.dumps(row) + b"\r\n\n")
    assert list(read_rows(path)) == [PlainRow(2, text, source, orjson.dumps(row))]


@pytest.mark.parametrize("content", [b'{"a": "b"}\n[1]\n', b'{"a": "b"}\n{"a": \n', b'{"a": "b"}\n\xff\n'])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="line 2") as refused:
        list(read_rows(path))
    assert refused.value.details == {"file": str(path), "line": 2}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b'prompt,completion,document_id\nP,"C\nc",7\n'),
        ("rows.json", b'[\n{"prompt": "P",\n"completion": "C\\nc", "document_id": "7"}]'),
    ],
)
def test_rows_of_other_files_become_lines_of_jsonl(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    row = {"prompt": "P", "completion": "C\nc", "document_id": "7"}
    assert list(read_rows(path)) == [PlainRow(2, "P\nC\nc", "7", orjson.dumps(row))]
