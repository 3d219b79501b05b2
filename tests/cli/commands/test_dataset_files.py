import json
from pathlib import Path

import pytest

from cli.main import run

GOOD = '{"messages":[{"role":"user","content":"Q%d?"},{"role":"assistant","content":"A."}]}\n'


def rows(path: Path, *extra: str) -> Path:
    path.write_text("".join(GOOD % number for number in range(10)) + "".join(extra))
    return path


def test_a_good_file_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["datasets", "check", str(rows(tmp_path / "good.jsonl"))]) == 0
    output = capsys.readouterr().out
    assert "good.jsonl: Valid, 10 of 10 rows can be trained on" in output
    assert "format openai: messages in 10 of the first 10 rows" in output


def test_a_bad_row_is_named_and_the_code_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = rows(tmp_path / "bad.jsonl", '{"messages": [NaN]}\n', *["{}\n"] * 30)
    assert run(["datasets", "check", str(bad), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["valid"] is False
    (file,) = report["files"]
    assert file["counts"] == {"not_a_number": 1, "unknown_format": 30}
    assert len(file["errors"]) == 1 + 5
    assert (file["errors"][0]["line"], file["errors"][0]["column"]) == (11, 15)
    assert file["stats"]["totalPairs"] == 10
    run(["datasets", "check", str(bad)])
    assert "... 25 more of 30" in capsys.readouterr().out


def test_what_cannot_be_read_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(b"\x1f\x8b\x08" + b"\0" * 100)
    assert run(["datasets", "check", str(packed), str(rows(tmp_path / "good.jsonl"))]) == 2
    assert "gunzip" in capsys.readouterr().out
    assert run(["datasets", "check", str(tmp_path / "none.jsonl")]) == 2
    assert run(["datasets", "check", str(tmp_path)]) == 2


def test_a_mapping_is_told_and_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs.jsonl"
    logs.write_text("".join(f'{{"query": "Q{n}?", "response": "A."}}\n' for n in range(10)))
    assert run(["datasets", "check", str(logs)]) == 1
    assert "--map question=query --map answer=response" in " ".join(capsys.readouterr().out.split())
    mapping = ["--map", "question=query", "--map", "answer=response"]
    assert run(["datasets", "check", str(logs), *mapping]) == 0
    assert run(["datasets", "check", str(logs), "--map", "question"]) == 2


def test_a_file_is_converted_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, there, back = rows(tmp_path / "a.jsonl"), tmp_path / "b.jsonl", tmp_path / "c.jsonl"
    assert run(["datasets", "convert", str(source), "--to", "alpaca", "-o", str(there)]) == 0
    assert "10 of 10 rows written" in capsys.readouterr().out
    assert json.loads(there.read_text().splitlines()[3]) == {
        "instruction": "Q3?",
        "input": "",
        "output": "A.",
    }
    assert run(["datasets", "convert", str(there), "--to", "openai", "-o", str(back)]) == 0
    assert back.read_text() == source.read_text()
    assert run(["datasets", "convert", str(there), "--to", "openai", "-o", str(back)]) == 2
    assert run(["datasets", "convert", str(there), "--to", "openai", "-o", str(back), "--force"]) == 0


def test_a_bad_row_changes_nothing_unless_it_may_be_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = rows(tmp_path / "a.jsonl", "{}\n"), tmp_path / "out.jsonl"
    command = ["datasets", "convert", str(source), "--to", "chatml", "-o", str(output)]
    assert run(command) == 1
    assert not output.exists()
    assert run([*command, "--skip-bad"]) == 0
    assert len(output.read_text().splitlines()) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "out.jsonl"]


def test_what_a_format_cannot_hold_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt":"Q?","chosen":"A.","rejected":"B.","id":7}\n')
    command = ["datasets", "convert", str(source), "-o", str(output), "--json", "--to"]
    assert run([*command, "alpaca"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["written"], report["counts"]) == (False, {"not_held": 1})
    assert "a worse answer" in report["errors"][0]["message"]
    assert run([*command, "openai_preference"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"metadata_left_out": 1}
    assert run([*command, "openai_preference", "--metadata", "--force"]) == 0
    assert json.loads(output.read_text())["id"] == 7
    assert run(["datasets", "convert", str(source), "--to", "dpo", "-o", str(tmp_path / "no" / "x")]) == 2
    assert run(["datasets", "convert", str(tmp_path / "none"), "--to", "dpo", "-o", str(tmp_path / "x")]) == 2
