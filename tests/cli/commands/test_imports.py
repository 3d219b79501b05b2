"""What `datasets import` sends: files that can be used, and conditions as the function reads them."""

from pathlib import Path
from typing import Any

import pytest

from cli.backend.client import anonymous_client
from cli.commands.imports import checked_files, parse_conditions, upload_files
from cli.exits import CliError


def test_conditions_are_numbers_where_they_read_as_one() -> None:
    given = [
        "lang=en",
        "lang=de",
        "turns>=4",
        "turns<=9",
        "paid=true",
        "id=007",
        "note=a=b",
        "at>=2026-11",
    ]
    assert parse_conditions(given) == {
        "lang": ["en", "de"],
        "turns": {"gte": 4, "lte": 9},
        "paid": [True],
        "id": ["007"],
        "note": ["a=b"],
        "at": {"gte": "2026-11"},
    }
    assert parse_conditions(["a>=1", "a=2"]) == {"a": {"gte": 1, "in": [2]}}
    assert parse_conditions(None) == {}
    for wrong in ("lang", "=en", "a!b"):
        with pytest.raises(CliError, match="FIELD=VALUE"):
            parse_conditions([wrong])


def test_files_that_cannot_be_sent_are_named_with_the_reason(tmp_path: Path) -> None:
    good, huge = tmp_path / "good.jsonl", tmp_path / "huge.jsonl"
    good.write_text("{}")
    with huge.open("wb") as file:
        file.truncate(100 * 2**20 + 1)
    assert checked_files([good]) == [good]
    for files, reason in (
        ([tmp_path / "none"], "no such file"),
        ([tmp_path], "not a file"),
        ([huge], "larger than 100 MiB"),
        ([good, good], "named twice"),
        ([good] * 101, "may have 100"),
    ):
        with pytest.raises(CliError, match=reason):
            checked_files(files)


async def test_files_are_sent_while_a_bar_moves(loopback: Any, connection: Any, tmp_path: Path) -> None:
    files = [tmp_path / "Über uns.jsonl", tmp_path / "b.csv"]
    for file in files:
        file.write_bytes(b"x" * 200_000)

    class AnyUpload(dict[Any, Any]):
        def get(self, request: Any, default: Any = None) -> Any:
            return 200, {"Key": "k", "Id": "i"}

    loopback.answers = AnyUpload()
    shown: list[int] = []

    class Bar:
        def update(self, row: dict[str, Any]) -> None:
            assert (row["status"], row["byte_count"]) == ("uploading", 400_000)
            shown.append(row["bytes_done"])

    async with anonymous_client(connection) as client:
        paths = await upload_files(client, "p", dict.fromkeys(files, 200_000), Bar())
    assert list(paths) == files
    assert [path.rpartition("/")[2] for path in paths.values()] == ["ber-uns.jsonl", "b.csv"]
    assert {path for _, path, _ in loopback.requests} == {
        f"/storage/v1/object/uploads/{p}" for p in paths.values()
    }
    assert shown[0] == 0
    assert shown[-1] == 400_000
    assert len(shown) > 5
