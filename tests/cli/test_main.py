"""The command line as a script sees it: exit codes, one document on stdout, quick help."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.exits import ExitCode
from cli.main import run
from tests.cli.conftest import USER

ROOT = Path(__file__).resolve().parents[2]
MOST_TIMES_ITS_LIBRARIES = 4  # some 2.8, on whatever machine
HEAVY = ("torch", "transformers", "supabase", "httpx", "psycopg", "devstack.up")


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    loaded, seconds = ran("from cli.main import run; run(['--help'])")
    assert loaded == "[]"
    _, libraries_seconds = ran("import rich.table, structlog, typer; from pydantic import BaseModel")
    assert seconds < MOST_TIMES_ITS_LIBRARIES * libraries_seconds


def ran(statement: str) -> tuple[str, float]:
    """What is loaded of HEAVY afterwards, and the least processor time of three runs."""
    program = (
        f"import sys, resource; {statement};"
        f"print([m for m in {HEAVY!r} if m in sys.modules]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    taken = []
    for _ in range(3):
        answer = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        *_, loaded, seconds = answer.stdout.strip().splitlines()
        taken.append(float(seconds))
    return loaded, min(taken)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--help"], ExitCode.OK),
        ([], ExitCode.USAGE),
        (["nonsense"], ExitCode.USAGE),
        (["datasets"], ExitCode.USAGE),
        (["jobs"], ExitCode.UNREACHABLE),
        (["jobs", "--follow"], ExitCode.UNREACHABLE),
        (["datasets", "create"], ExitCode.USAGE),
        (["docs", "add", "/no/such/file.md"], ExitCode.USAGE),
        (["train", "d", "--set", "epochs"], ExitCode.USAGE),
        (["datasets", "list"], ExitCode.UNREACHABLE),
        (["jobs", "show", "last"], ExitCode.UNREACHABLE),
        (["demo", "/no/such/file.md"], ExitCode.USAGE),
    ],
)
@pytest.mark.usefixtures("nowhere")
def test_exit_codes(arguments: list[str], exit_code: ExitCode) -> None:
    assert run(arguments) == exit_code


@pytest.mark.usefixtures("nowhere")
def test_errors_are_one_json_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["datasets", "list", "--json"], ["docs", "add", "--json"], ["nonsense", "--json"]):
        assert run(arguments) != ExitCode.OK
        printed = capsys.readouterr()
        assert set(json.loads(printed.out)["error"]) == {"code", "message", "details", "hint"}
        assert printed.err == ""


def test_results_are_one_json_document_on_stdout(loopback, nowhere, monkeypatch, capsys) -> None:

    session = {"access_token": "a.b.c", "refresh_token": "r", "token_type": "bearer", "expires_in": 3600}
    loopback.answer("POST", "/auth/v1/token", 200, {**session, "user": USER})
    loopback.answer("GET", "/rest/v1/projects", 200, [{"id": "p", "name": "P"}])
    loopback.answer("GET", "/rest/v1/documents", 200, [])
    monkeypatch.setenv("FINEFLOW_URL", loopback.url)
    monkeypatch.setenv("FINEFLOW_PUBLISHABLE_KEY", "sb_publishable_test")
    assert run(["docs", "list", "--json"]) == ExitCode.FORBIDDEN
    assert "not logged in" in capsys.readouterr().out
    monkeypatch.setenv("FINEFLOW_EMAIL", "a@x.test")
    monkeypatch.setenv("FINEFLOW_PASSWORD", "pw")
    assert run(["docs", "list", "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == []
    assert not (nowhere / "session.json").exists(), "a login from the environment is not written to disk"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_work_after_its_clean_up(number: signal.Signals, status: int) -> None:
    program = """
import asyncio, sys
from cli.command import run_until_signal
from cli.exits import Interrupted

async def work():
    try:
        print("started", flush=True)
        await asyncio.sleep(30)
    finally:
        await asyncio.sleep(0.3)
        print("cleaned", flush=True)

try:
    run_until_signal(work())
except Interrupted as interrupted:
    sys.exit(interrupted.exit_status)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.kill(process.pid, number)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)  # an impatient second one does not cut the clean-up short
    output, _ = process.communicate(timeout=20)
    assert (output, process.returncode) == ("cleaned\n", status)
