"""Review by commands on the embedded stack, and by keys on a real terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from cli.exits import CliError, ExitCode
from cli.main import run
from cli.review.calls import parse_filter
from devstack.up import Stack
from tests.functions.world import make_dataset

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 60


def environment(stack: Stack, home: Path) -> dict[str, str]:
    return {
        "FINEFLOW_URL": stack.url,
        "FINEFLOW_PUBLISHABLE_KEY": stack.publishable_key,
        "FINEFLOW_DATA_DIR": str(home),
    }


class Desk:
    """A user with a dataset of 12 pairs, and the commands that this user types."""

    def __init__(self, stack: Stack, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.stack, self.capsys = stack, capsys
        self.environment = environment(stack, home)

    def new_dataset(self) -> None:
        self("docs", "list")  # makes the first project
        email = self("whoami")["email"]
        project = self.row(
            "select p.id from projects p join auth.users u on u.id = p.owner_id where u.email = %s", email
        )
        dataset = make_dataset(self.stack, str(project), pairs=12)
        self.name = self.row("select name from training_datasets where id = %s", dataset)
        self.ids = [
            str(row)
            for (row,) in self.rows(
                "select id from training_pairs where dataset_id = %s order by ordinal", dataset
            )
        ]

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.database_url, autocommit=True) as database:
            cursor = database.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def row(self, sql: str, *parameters: object) -> Any:
        return self.rows(sql, *parameters)[0][0]

    def pair(self, number: int, column: str) -> Any:
        return self.row(f"select {column} from training_pairs where id = %s", self.ids[number])

    def __call__(self, *arguments: str, code: int = ExitCode.OK) -> Any:
        """The JSON document that a command prints."""
        found = run([*arguments, "--json"])
        printed = self.capsys.readouterr().out
        assert found == code, printed
        return json.loads(printed)

    def shown(self, *arguments: str) -> str:
        run(list(arguments))
        return self.capsys.readouterr().out


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a user who is logged in."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(stack, folder).items():
            patch.setenv(name, value)
        patch.setattr("sys.stdin", io.StringIO("a-long-password\n"))
        assert run(["signup", f"reviewer-{uuid4()}@test.local"]) == ExitCode.OK
    return folder


@pytest.fixture
def desk(
    stack: Stack, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    made = Desk(stack, home, capsys)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    made.new_dataset()
    return made


def test_conditions_are_read_as_what_they_are() -> None:
    assert parse_filter(["is_valid=true", "min_quality=0.5", "min_rating=4", "search=a=b"]) == {
        "is_valid": True,
        "min_quality": 0.5,
        "min_rating": 4,
        "search": "a=b",
    }
    for wrong in ("colour=red", "is_valid", "is_valid=maybe", "min_rating=four"):
        with pytest.raises(CliError):
            parse_filter([wrong])


def test_pairs_are_listed_edited_and_taken_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = desk("pairs", "list", desk.name, "--limit", "5")
    assert len(listed) == 5
    assert len(desk("pairs", "list", desk.name, "--where", "search=door 1 opens")) == 1
    short = desk.ids[0][:8]
    edited = desk("pairs", "edit", short, "--assistant", "Door 0 is open.", "--system", "Be brief.")
    assert (edited["changed"], edited["pair"]["system_message"]) == (1, "Be brief.")
    refused = desk("pairs", "edit", short, "--user", "Which?", "--revision", "0", code=ExitCode.USAGE)
    assert refused["error"]["code"] == "pair_changed"
    monkeypatch.setattr("sys.stdin", io.StringIO('{"user": "Which door is open?"}'))
    assert desk("pairs", "edit", short, "--changes", "-")["pair"]["user_message"] == "Which door is open?"
    history = desk("pairs", "show", short)["revisions"]
    assert [step["action"] for step in history] == ["edit", "edit"]
    assert "Which door is open?" in desk.shown("pairs", "show", short)
    assert desk("pairs", "undo", short)["undone"] == 1
    assert desk("pairs", "undo", "--batch", edited["batch_id"])["undone"] == 1
    assert desk("pairs", "undo", short, code=ExitCode.USAGE)["error"]["code"] == "nothing_to_undo"
    for wrong in ("zzzz", "00000000-0000-4000-8000-000000000000", desk.ids[0][:3]):
        assert desk("pairs", "show", wrong, code=ExitCode.USAGE)["error"]["code"] == "not_found"


def test_one_fix_for_all_that_need_it(desk: Desk) -> None:
    desk("pairs", "edit", desk.ids[0], "--assistant", "Door 0 closes with 0.")
    assert desk("pairs", "fix", desk.ids[0])["matched"] == 11
    assert len(desk("pairs", "similar", desk.ids[0])) == 11
    assert "closes" in desk.shown("pairs", "fix", desk.ids[0])
    applied = desk("pairs", "fix", desk.ids[0], "--apply")
    assert applied["changed"] == 11
    assert desk.pair(5, "assistant_message") == "Door 5 closes with 35."
    assert len(desk("datasets", "preferences", desk.name)) == 12
    made = desk("datasets", "preferences", desk.name, "--name", "better")
    assert (made["pair_count"], made["source"]) == (12, "edits")
    assert len(desk("pairs", "list", "better", "--where", "kind=preference")) == 12
    assert desk("pairs", "undo", "--batch", applied["batch_ids"][0])["undone"] == 11


def test_review_without_a_keyboard(desk: Desk) -> None:
    first, second, third = (pair[:8] for pair in desk.ids[:3])
    assert len(desk("datasets", "review", desk.name)) == 12
    done = desk("datasets", "review", desk.name, "--approve", first, "--approve", second, "--reject", third)
    assert [(step["action"], step["changed"]) for step in done] == [("approve", 2), ("reject", 1)]
    assert len(desk("datasets", "review", desk.name, "--list")) == 9
    desk("datasets", "review", desk.name, "--do", "rate=4", "--where", "review_status=approved")
    assert [desk.pair(number, "rating") for number in range(3)] == [4, 4, None]
    [step] = desk("datasets", "review", desk.name, "--do", "delete", "--all")
    assert (step["changed"], desk("pairs", "list", desk.name)) == (12, [])
    desk("datasets", "review", desk.name, "--restore", desk.ids[0])
    assert desk("pairs", "undo", "--batch", step["batch_ids"][0])["undone"] == 11
    for wrong in (["--do", "delete"], ["--do", "burn", "--all"], ["--where", "colour=red"]):
        assert desk("datasets", "review", desk.name, *wrong, code=ExitCode.USAGE)["error"]


def test_a_certificate_by_commands(desk: Desk) -> None:
    assert desk("datasets", "certificate", desk.name, "--show", code=ExitCode.FAILED) is None
    opened = desk("datasets", "certificate", desk.name, code=ExitCode.FAILED)
    assert (opened["state"], opened["to_review"]) == ("open", 12)
    drawn = [pair["id"] for pair in desk("datasets", "review", desk.name, "--sample")]
    assert sorted(drawn) == sorted(desk.ids)
    assert "12 more to be reviewed" in desk.shown("datasets", "certificate", desk.name)
    approvals = [word for pair in drawn for word in ("--approve", pair[:13])]
    desk("datasets", "review", desk.name, *approvals)
    granted = desk("datasets", "certificate", desk.name)
    assert (granted["state"], granted["reviewed"], granted["bad_share_bound"]) == ("granted", 12, 0)
    assert "at most 3.0% of the pairs are bad" in desk.shown("datasets", "certificate", desk.name, "--show")


@pytest.fixture
def terminal(desk: Desk, tmp_path: Path) -> Iterator[Terminal]:
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nsed -i.old s/opens/closes/ "$1"\n')
    editor.chmod(0o755)
    terminal = Terminal(
        ["datasets", "review", desk.name],
        {**os.environ, **desk.environment, "EDITOR": str(editor), "COLUMNS": "100", "TERM": "dumb"},
    )
    yield terminal
    terminal.close()


class Terminal:
    """A command on a pseudo-terminal, which is typed into and read."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=ROOT, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.text = ""

    def wait_for(self, words: str) -> None:
        """The words stand on the screen, after what was waited for before."""
        deadline = time.monotonic() + SECONDS
        while words not in self.text:
            assert time.monotonic() < deadline, (words, self.text)
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        self.text = self.text.partition(words)[2]

    def press(self, key: str, words: str, prompt: str = "review> ") -> None:
        """The key is answered with the words, and then another one is asked for."""
        os.write(self.master, key.encode())
        self.wait_for(words)
        self.wait_for(prompt)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_review_by_keyboard(desk: Desk, terminal: Terminal) -> None:
    terminal.wait_for("review> ")
    terminal.press("e", " closes with ")
    terminal.press("f", "Change 11 other pairs?", "y/n> ")
    terminal.press("y", "A Door")
    terminal.press("4", "4/5")
    terminal.press("g", "pending *")
    terminal.press("\x1b[A", "q quit")
    terminal.press("a", "A Door")
    terminal.press("r", "A Door")
    terminal.press("s", "A Door")
    terminal.press("u", "Undone: reject.")
    terminal.press("r", "A Door")
    terminal.press("q", "reject: 1", "\n")
    assert terminal.process.wait(SECONDS) == 0
    columns = "review_status, rating, is_gold_star, revision, assistant_message like '%%closes%%'"
    rows = desk.rows(f"select {columns} from training_pairs where id::text = any(%s)", desk.ids)
    approved = ("approved", 4, True, 4, True)
    rejected = ("rejected", None, False, 4, True)  # fixed, rejected, undone, rejected
    assert sorted(rows, key=str) == sorted(
        [approved, rejected, *[("pending", None, False, 1, True)] * 10], key=str
    )


def test_ctrl_c_ends_the_review_and_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.wait_for("review> ")
    terminal.process.send_signal(2)
    assert terminal.process.wait(SECONDS) == ExitCode.INTERRUPTED
