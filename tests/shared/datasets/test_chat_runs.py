"""Plain chats are checked many at a time; what is found is the same as row by row."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from shared.datasets import lines
from shared.datasets.check import FileReport, check_file
from shared.datasets.checker import Checker
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.reading import FIRST_ROWS, Reading
from shared.datasets.sources import ChatRun
from tests.shared.datasets.test_reading_malformed import CASES, GOOD, LIMITS, Case

KEY = "sk-proj-" + "a1B2" * 8
SAID = [
    "Q?", "A.", "", " \n", "\u3000", "n/a", "...", "Yes", "Größe — 数据", "\U0001f40d", "word " * 40,
    "\\", '"', '"role":"', ', "role"', "],", "  ", ",  ", "\t", "\\u0000", "\\u0041", "}{", "a@b",
    "ada@firm.org", "+44 20 7946 0018", KEY, "4111 1111 1111 1111", "word " * 1500,
    "DE89 3704 0044 0532 0130 00",
]  # fmt: skip
SEPARATORS = [(",", ":"), (", ", ": "), (" , ", " : "), (",  ", ":"), (",\t", ":")]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the block in which the format is told are taken one by one; what is tested stands behind it."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", 2**12)


def one_by_one(path: Path, limits: Limits) -> tuple[Counter[tuple[object, ...]], dict[str, object]]:
    """Every finding, and the statistics, of a check that takes no row together with another."""
    reading, found, checker = Reading(path, limits, {}), Counter[tuple[object, ...]](), None
    for item in reading:
        if isinstance(item, Finding):
            found[_key(item)] += 1
            continue
        checker = checker or Checker(format="openai", file=path.name)
        found.update(map(_key, checker.add(item)))
    assert checker
    found.update(map(_key, checker.finish(path.stat().st_size)))
    return found, checker.stats().as_dict() | {"rows": reading.row_count}


def together(path: Path, limits: Limits) -> tuple[Counter[tuple[object, ...]], dict[str, object]]:
    report: FileReport = check_file(path, limits, listed_a_rule=10**6)
    assert report.stats
    return Counter(map(_key, report.findings)), report.stats.as_dict() | {"rows": report.row_count}


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.rule, finding.line, finding.column, finding.message


def runs(path: Path, limits: Limits | None = None) -> list[ChatRun]:
    return [item for item in Reading(path, limits or Limits(), {}).in_runs() if isinstance(item, ChatRun)]


def written(path: Path, rows: list[bytes], end: bytes = b"\n") -> Path:
    """The rows behind as many good ones as the format is told from."""
    first = [GOOD.replace(b"Q?", b"%d?" % number) for number in range(2 * FIRST_ROWS)]
    path.write_bytes(end.join([*first, *rows]) + end)
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_row_among_many_is_found_alike(case: Case, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [GOOD, case.row, GOOD, b"", GOOD])
    assert together(path, LIMITS) == one_by_one(path, LIMITS)


@pytest.mark.parametrize("seed", range(12))
def test_chats_of_all_kinds_are_found_alike(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)

    def row() -> bytes:
        roles = chance.choice(["ua", "sua", "uaua", "suaua", "u", "au", "uu", "usa", "uata", "s"])
        names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
        messages = [{"role": names[role], "content": chance.choice(SAID)} for role in roles]
        if chance.random() < 0.1:
            messages[0] = dict(reversed(messages[0].items()))
        beside = {"id": 7} if chance.random() < 0.1 else {}
        separators = chance.choice(SEPARATORS)
        whole = {"messages": messages, **beside}
        return json.dumps(whole, ensure_ascii=chance.random() < 0.5, separators=separators).encode()

    rows = [chance.choice([row, row, row, lambda: GOOD])() for _ in range(400)]
    path = written(tmp_path / "rows.jsonl", rows, chance.choice([b"\n", b"\r\n"]))
    assert together(path, Limits()) == one_by_one(path, Limits())


def test_most_rows_are_taken_together(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", [GOOD] * 3000)
    assert sum(len(run.chats) for run in runs(path)) >= 2000
    assert [run.line for run in runs(path)] == sorted({run.line for run in runs(path)})


def test_a_key_that_comes_twice_hides_in_no_layout(tmp_path: Path) -> None:
    user, answer = b'{"role":"user","content":"Q?"}', b'{"role":"assistant","content":"A."}'
    for blanks in (b"", b" ", b"  ", b"\t", b"\r", b" \t "):
        for key, twice in (
            (b'"role"', b'{"role":"user"%b,%b"role":"user","content":"Q?"}'),
            (b'"content"', b'{"role":"user"%b,%b"content":"user","content":"Q?"}'),
            (b'"role"', b'{"content":"Q?"%b,%b"role":"user","role":"user"}'),
            (b'"messages"', b'{"role":"user","content":"Q?"}]%b,%b"messages":[' + user),
            (b'"role"', rb'{"role":"user"%b,%b"\u0072ole":"user","content":"Q?"}'),
        ):
            row = b'{"messages":[' + twice % (blanks, blanks) + b"," + answer + b"]}"
            path = written(tmp_path / "rows.jsonl", [GOOD, row, GOOD])
            report = check_file(path)
            found = [finding for finding in report.findings if finding.rule == "duplicate_key"]
            assert [finding.line for finding in found] == [2 * FIRST_ROWS + 2], (key, blanks, row)


def test_a_content_that_comes_twice_is_not_made_up_for_by_one_spelled_otherwise(tmp_path: Path) -> None:
    twice = GOOD.replace(b'"content":"Q?"', b'"content":"P?","content":"Q?"')
    spelled = GOOD.replace(b'"content":"Q?"', rb'"\u0063ontent":"Q?"')
    path = written(tmp_path / "rows.jsonl", [twice, spelled])
    found = [finding.line for finding in check_file(path).findings if finding.rule == "duplicate_key"]
    assert found == [2 * FIRST_ROWS + 1]


def test_two_chats_on_one_line_are_not_made_up_for_by_one_over_two(tmp_path: Path) -> None:
    over_two = GOOD.replace(b'{"role":"user"', b'\n{"role":"user"')
    for before, two in ((b"", GOOD + GOOD), (b"", GOOD + b" " + GOOD), (b"\n", GOOD + b"\t" + GOOD)):
        rows = [before + two, over_two] if before else [two, over_two]
        path = written(tmp_path / "rows.jsonl", [GOOD, *rows, GOOD])
        assert together(path, Limits()) == one_by_one(path, Limits())
        assert not check_file(path).is_valid


def test_a_row_that_is_no_utf8_hides_nothing_in_others(tmp_path: Path) -> None:
    secret, bad = GOOD.replace(b"A.", KEY.encode()), GOOD.replace(b"A.", b"\xff")
    path = written(tmp_path / "rows.jsonl", [secret, bad, secret])
    found = [(finding.rule, finding.line) for finding in check_file(path).findings]
    assert {("secret", 201), ("bad_utf8", 202), ("secret", 203)} <= {*found}
