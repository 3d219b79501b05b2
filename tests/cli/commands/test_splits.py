"""split, dedupe and leaks on plain files: nowhere is a stack."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cli.main import run
from tests.shared.datasets.planted import edited, sentence

pytestmark = pytest.mark.usefixtures("nowhere")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """120 rows in pairs that differ in two words; 1 and 3 are of one document, 121 says what 1 says."""
    rng = random.Random(4)
    lines: list[dict[str, Any]] = []
    for number in range(60):
        words = sentence(rng, 60)
        for said in (words, edited(rng, words, 2)):
            lines.append({"prompt": f"Question {number}?", "completion": " ".join(said)})
    lines[0]["document_id"] = lines[2]["document_id"] = "d"
    lines.append({"prompt": "question  0?", "completion": lines[0]["completion"]})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = run(["datasets", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_split_then_leaks_finds_none(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "split", rows, "-o", tmp_path / "parts", "--seed", "7")
    parts = [tmp_path / "parts" / f"{name}.jsonl" for name in ("train", "validation", "test")]
    written = [part.read_text().splitlines() for part in parts]
    assert (code, found["rows"], found["groups"], found["documents"]) == (0, 121, 59, 1)
    assert [len(lines) for lines in written] == list(found["counts"].values())
    assert sorted(line for part in written for line in part) == sorted(rows.read_text().splitlines())
    assert answer(capsys, "leaks", *parts) == (
        0,
        {"leaks": [], "counts": {"exact": 0, "near": 0, "source": 0}},
    )
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == sorted(part.name for part in parts)
    again = answer(capsys, "split", rows, "-o", tmp_path / "parts", "--seed", "7", "--force")
    assert again == (0, found)


def test_leaks_names_both_lines(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, validation = tmp_path / "train.jsonl", tmp_path / "validation.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    train.write_text("".join(lines[:51]))
    validation.write_text("".join(lines[51:120]) + lines[120])
    code, found = answer(capsys, "leaks", train, validation)
    assert (code, found["counts"]) == (1, {"exact": 1, "near": 2, "source": 0})
    exact, *near = found["leaks"]
    assert (exact["first"], exact["second"]) == (
        {"file": str(train), "line": 1},
        {"file": str(validation), "line": 70},
    )
    assert {(leak["first"]["line"], leak["second"]["line"]) for leak in near} == {(51, 1), (2, 70)}


def test_dedupe_keeps_the_first_of_each(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    code, found = answer(capsys, "dedupe", rows, "-o", out)
    assert (code, found["rows"], found["kept"]) == (0, 121, 60)
    assert out.read_text().splitlines() == rows.read_text().splitlines()[:120:2]
    assert found["dropped"][0] == {"line": 2, "keptLine": 1}
    assert found["dropped"][-1] == {"line": 121, "keptLine": 1}


def test_what_people_read(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["datasets", "leaks", str(rows), str(rows)]) == 1
    assert "rows.jsonl:20 " in capsys.readouterr().out
    assert run(["datasets", "dedupe", str(rows), "-o", str(tmp_path / "o")]) == 0
    assert "line 2 says what line 1 says" in capsys.readouterr().out
    assert run(["datasets", "split", str(rows), "-o", str(tmp_path / "p")]) == 0
    assert "content hash" in capsys.readouterr().out


def test_refusals_are_sentences_with_exit_code_2(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"a": "b"}\n{"a"\n')
    out = tmp_path / "out"
    for arguments, said in (
        (("split", tmp_path / "none.jsonl", "-o", out), "No such file"),
        (("split", broken, "-o", out), "line 2"),
        (("split", rows, "-o", out, "--train", "0.9"), "add up to 1"),
        (("split", rows, "-o", tmp_path / "parts", "--group-by", "chapter"), "has a chapter"),
        (("dedupe", rows, "-o", rows), "exists already"),
        (("dedupe", broken, "-o", out), "line 2"),
        (("leaks", rows, tmp_path), "Is a directory"),
    ):
        code, found = answer(capsys, *arguments)
        assert (code, said in found["error"]["message"]) == (2, True), found
    assert not out.exists()
    assert not list((tmp_path / "parts").iterdir())
    assert len(rows.read_text().splitlines()) == 121
