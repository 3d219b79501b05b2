import json
import os
import subprocess
import sys
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


def test_files_that_know_of_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, other = rows(tmp_path / "train.jsonl"), tmp_path / "test.csv"
    other.write_text("prompt,completion\nWhere is it?,There.\nQ3?,A.\n")
    assert run(["datasets", "check", str(train), str(other), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [file["counts"].get("file_overlap") for file in report["files"]] == [None, 1]
    (found,) = [one for one in report["files"][1]["warnings"] if one["rule"] == "file_overlap"]
    assert (found["file"], found["line"], found["message"]) == (
        "test.csv",
        3,
        "Says the same as line 4 of train.jsonl.",
    )


def test_statistics_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = rows(tmp_path / "rows.jsonl", GOOD % 3)
    assert run(["datasets", "check", str(path), "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    stats = file["stats"]
    assert (stats["totalPairs"], stats["totalRows"], stats["uniqueQuestions"]) == (11, 11, 10)
    assert stats["tokenHistogram"][0] == {"from": 0, "below": 64, "rows": 11}
    assert stats["languages"] == {"en": 1.0}
    assert file["counts"] == {"duplicate_row": 1}
    assert run(["datasets", "check", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "tokens a row" in shown
    assert "10 different questions" in shown


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_every_container_goes_there_and_back(suffix: str, tmp_path: Path) -> None:
    source, there, back = rows(tmp_path / "a.jsonl"), tmp_path / f"b.{suffix}", tmp_path / "c.jsonl"
    assert run(["datasets", "convert", str(source), "--to", "sharegpt", "-o", str(there)]) == 0
    assert run(["datasets", "check", str(there)]) == 0
    assert run(["datasets", "convert", str(there), "--to", "openai", "-o", str(back)]) == 0
    assert back.read_text() == source.read_text()
    assert run(["datasets", "dedupe", str(there), "-o", str(tmp_path / f"d.{suffix}")]) == 0
    assert run(["datasets", "check", str(tmp_path / f"d.{suffix}")]) == 0


def test_what_a_table_does_not_keep_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"question":"Q?","answer":"=A","id":7,"from":"b"}\n{"question":"R?","answer":"B."}\n')
    for suffix, changed in (("csv", "id"), ("parquet", None)):
        command = ["datasets", "convert", str(source), "--to", "alpaca", "--metadata", "--json"]
        assert run([*command, "-o", str(tmp_path / f"b.{suffix}")]) == 0
        told = [one["message"] for one in json.loads(capsys.readouterr().out)["warnings"]]
        assert told == (
            [f"In csv these columns come back as text or as nothing: {changed}."] if changed else []
        )
    assert (tmp_path / "b.csv").read_text() == (
        'instruction,input,output,id,from\nQ?,"",\'=A,7,b\nR?,"",B.,,\n'
    )


def test_no_heavy_library_is_loaded_for_plain_files(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl")
    program = f"""
import sys
from cli.main import run
assert run(["datasets", "check", {str(path)!r}]) == 0
assert run(["datasets", "convert", {str(path)!r}, "--to", "dpo", "-o", "x.csv"]) == 1
assert run(["datasets", "split", {str(path)!r}, "-o", {str(tmp_path / "parts")!r}]) == 0
loaded = {{"torch", "transformers", "datasets", "trl", "pyarrow", "fastapi", "modal"}} & sys.modules.keys()
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_but_the_result_is_printed_without_a_vocabulary(tmp_path: Path) -> None:
    path = rows(tmp_path / "a.jsonl")
    command = [sys.executable, "-m", "cli.main", "datasets", "check", str(path), "--json"]
    environment = {**os.environ, "TIKTOKEN_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["files"][0]["stats"]["tokensAreExact"] is False
    assert "token counts are estimates" in done.stderr


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_one_bad_row_in_a_thousand_leaves_the_others_when_that_is_asked_for(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "a.csv", tmp_path / f"out.{suffix}"
    records = [f"Q{number}?,A.\n" for number in range(1000)]
    records[617] = 'Q617?,"A.\n'
    source.write_text("question,answer\n" + "".join(records))
    command = ["datasets", "convert", str(source), "--to", "openai", "-o", str(output), "--json"]
    assert run(command) == 1
    assert not output.exists()
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert (error["rule"], error["line"], error["column"]) == ("open_quote", 619, 7)
    assert run([*command, "--skip-bad"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["written"], report["stats"]) == (True, {"totalPairs": 999, "totalRows": 1000})
    assert run(["datasets", "check", str(output)]) == 0
    assert "999 of 999 rows can be trained on" in capsys.readouterr().out
