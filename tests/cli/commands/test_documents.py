"""Files are checked before anything is sent, and stored under keys that every storage accepts."""

import io
import json
from pathlib import Path

import pytest

from cli.backend.client import anonymous_client
from cli.commands.documents import add_documents, checked_file
from cli.commands.keys import read_secret
from cli.commands.training import training_config
from cli.exits import CliError


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.md", b"", "empty"),
        ("paper.odt", b"x", "only .md"),
        ("noname", b"x", "only .md"),
        ("folder.md", None, "not a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, name, content, reason) -> None:
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(CliError, match=reason) as caught:
        checked_file(path)
    assert name in caught.value.message


@pytest.mark.parametrize(
    ("name", "key"),
    [("Über uns 2026.md", "ber-uns-2026.md"), ("日本.TXT", "document.txt"), ("..md.md", "md.md")],
)
async def test_the_row_keeps_the_name_and_storage_gets_a_plain_key(
    loopback, connection, tmp_path: Path, name: str, key: str
) -> None:
    path = tmp_path / name
    path.write_text("Some text.")
    loopback.answers["POST", "/rest/v1/documents"] = lambda: (201, [{"status": "uploaded"}])
    uploads = []

    class AnyUpload(dict):
        def get(self, request, default=None):
            if request[1].startswith("/storage/v1/object/documents/"):
                uploads.append(request[1])
                return 200, {"Key": "k", "Id": "i"}
            return super().get(request, default)

    loopback.answers = AnyUpload(loopback.answers)
    async with anonymous_client(connection) as client:
        await add_documents(client, "p", [path], wait=False)
    assert uploads[0].startswith("/storage/v1/object/documents/p/")
    assert uploads[0].endswith(f"/{key}")
    row = next(body for method, path, body in loopback.requests if path.startswith("/rest/v1/documents"))
    assert json.loads(row)["name"] == name


def test_settings_are_numbers_or_words() -> None:
    assert training_config(2, None, None, ["lr_scheduler=cosine", "lora_r=8", "warmup_ratio = 0.1"]) == {
        "epochs": 2,
        "lr_scheduler": "cosine",
        "lora_r": 8,
        "warmup_ratio": 0.1,
    }
    with pytest.raises(CliError, match="NAME=VALUE"):
        training_config(None, None, None, ["=3"])


def test_a_key_comes_from_standard_input_and_shows_nothing(monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-secret-1234\n"))
    key = read_secret("key: ")
    assert key.get_secret_value() == "sk-secret-1234"
    assert "secret" not in repr(key) + capsys.readouterr().out
    with pytest.raises(CliError, match="Nothing was entered"):
        read_secret("key: ")
