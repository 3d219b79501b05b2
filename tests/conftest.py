"""The whole embedded stack, started once, and users to try it with."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from supabase import AsyncClient

from devstack.ports import free_port
from devstack.up import Stack
from tests.supabase_py import supabase_client

NewUser = Callable[[], Awaitable[tuple[AsyncClient, str, str]]]
Figure = Callable[[str], None]

os.environ.pop("COLUMNS", None)  # pytest-xdist's processes have it, and would print narrower tables


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Shows a line when all tests have run, whether they passed or not and whichever process ran this one."""
    return partial(record_property, "figure")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    told = {
        report.nodeid: lines
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        if (lines := [str(line) for name, line in report.user_properties if name == "figure"])
    }
    if told:
        terminalreporter.section("figures")
    for test in sorted(told):
        terminalreporter.write_line(f"{test}:")
        for line in told[test]:
            terminalreporter.write_line(f"  {line}")


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Everything that `make up` runs, on free ports and a database of its own."""
    directory = Path(tempfile.mkdtemp(prefix="fineflow-stack-"))
    try:
        async with Stack(directory, free_port()) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def new_user(stack: Stack) -> AsyncIterator[NewUser]:
    """Signs up a user: `client, user_id, access_token = await new_user()`. The client acts as that user."""
    async with AsyncExitStack() as clients:

        async def sign_up() -> tuple[AsyncClient, str, str]:
            client = await clients.enter_async_context(supabase_client(stack.url, stack.publishable_key))
            answer = await client.auth.sign_up(
                {"email": f"user-{uuid4().hex}@test.local", "password": "correct-horse-battery"}
            )
            assert answer.user is not None
            assert answer.session is not None
            return client, answer.user.id, answer.session.access_token

        yield sign_up
