"""Where a command finds its stack, and as whom it goes there."""

import json
import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.backend.connection import data_dir, find_connection, running_stack
from cli.backend.session import SavedSession, forget_session, load_session, save_session, session_path
from cli.exits import CliError, ExitCode

STACK = {
    "url": "http://127.0.0.1:54321",
    "publishable_key": "sb_publishable_x",
    "demo_email": "demo@fineflow.local",
    "demo_password": "fineflow-demo",
    "pid": os.getpid(),
}


def environment(directory: Path, **more: str) -> dict[str, str]:
    return {"FINEFLOW_DATA_DIR": str(directory), **more}


def write_stack(directory: Path, **changes: object) -> None:
    (directory / "stack.json").write_text(json.dumps({**STACK, **changes}))


def test_the_environment_wins_over_a_running_stack(tmp_path: Path) -> None:
    write_stack(tmp_path)
    found = find_connection(
        environment(
            tmp_path, FINEFLOW_URL="https://x.test/", FINEFLOW_PUBLISHABLE_KEY="k", SUPABASE_URL="other"
        )
    )
    assert (found.url, found.publishable_key, found.login) == ("https://x.test", "k", None)


def test_supabase_names_are_read_as_well(tmp_path: Path) -> None:
    found = find_connection(
        environment(tmp_path, SUPABASE_URL="https://y.test", SUPABASE_PUBLISHABLE_KEY="k")
    )
    assert found.url == "https://y.test"


def test_half_an_address_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="FINEFLOW_PUBLISHABLE_KEY is not set") as caught:
        find_connection(environment(tmp_path, FINEFLOW_URL="https://x.test"))
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_running_stack_brings_its_demo_login(tmp_path: Path) -> None:
    write_stack(tmp_path)
    found = find_connection(environment(tmp_path))
    assert found.url == STACK["url"]
    assert found.login is not None
    assert found.login.email == "demo@fineflow.local"
    assert not found.login_is_explicit
    assert "fineflow-demo" not in repr(found)


def test_the_users_own_login_goes_before_the_demo_login(tmp_path: Path) -> None:
    write_stack(tmp_path)
    found = find_connection(environment(tmp_path, FINEFLOW_EMAIL="me@x.test", FINEFLOW_PASSWORD="secret"))
    assert found.login is not None
    assert (found.login.email, found.login_is_explicit) == ("me@x.test", True)


@pytest.mark.parametrize("content", ["", "{", '{"url": "x"}', '{"pid": 4194304}'])
def test_a_broken_or_stale_stack_file_is_no_stack(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)
    assert running_stack(tmp_path) is None
    with pytest.raises(CliError) as caught:
        find_connection(environment(tmp_path))
    assert caught.value.exit_code == ExitCode.UNREACHABLE


def test_the_data_directory_stands_beside_the_code_unless_set(tmp_path: Path) -> None:
    assert data_dir({}).name == ".fineflow"
    assert (data_dir({}).parent / "pyproject.toml").is_file()
    assert data_dir(environment(tmp_path)) == tmp_path


def session(url: str = "http://x.test") -> SavedSession:
    return SavedSession(url, "a@x.test", SecretStr("access"), SecretStr("refresh"))


def test_a_saved_session_is_for_its_owner_and_its_address_only(tmp_path: Path) -> None:
    where = environment(tmp_path / "new")
    save_session(session(), where)
    assert stat.S_IMODE(session_path(where).stat().st_mode) == 0o600
    assert load_session("http://x.test", where) == session()
    assert load_session("http://elsewhere.test", where) is None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["session.json"]


def test_a_damaged_session_is_no_session(tmp_path: Path) -> None:
    where = environment(tmp_path)
    session_path(where).write_text('["not a session"]')
    assert load_session("http://x.test", where) is None
    forget_session(where)
    forget_session(where)
    assert not session_path(where).exists()
