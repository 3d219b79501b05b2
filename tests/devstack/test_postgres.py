from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from devstack import postgres, postgres_place
from devstack.postgres import Postgres, PostgresFailed
from devstack.postgres_place import _copied, _wheel_programs, find_place, prune
from devstack.processes import process_identity

PASSWORD = SecretStr("a b@c/d'e")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root does")


async def ask(server: Postgres, question: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(server.url.get_secret_value()) as connection:
        cursor = await connection.execute(question)
        return await cursor.fetchall() if cursor.description else []


async def test_serves_loopback_tcp_only_with_logical_replication(data_dir: Path) -> None:
    async with Postgres(data_dir, PASSWORD) as server:
        assert server.port < 32768
        [row] = await ask(
            server,
            "select current_setting('wal_level'), current_setting('unix_socket_directories'),"
            " current_setting('listen_addresses'), current_setting('server_encoding'), upper('ä')",
        )
        assert row == ("logical", "", "127.0.0.1", "UTF8", "Ä")
        stranger = server.url.get_secret_value().replace("a%20b", "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await psycopg.AsyncConnection.connect(stranger)
    assert not list(data_dir.glob("*.password"))


async def test_keeps_what_was_committed_before_a_crash(data_dir: Path) -> None:
    async with Postgres(data_dir, PASSWORD) as server:
        await ask(server, "create table kept as select 7 as n")
        assert server.child is not None
        os.kill(server.child.pid, signal.SIGKILL)
        await server.child.exited()
    async with Postgres(data_dir, PASSWORD) as server:
        assert await ask(server, "select n from kept") == [(7,)]


async def test_a_pid_file_that_names_somebody_else_is_ignored(data_dir: Path) -> None:
    async with Postgres(data_dir, PASSWORD) as server:
        pid_file = server.place.cluster / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    owner = server.place.account.uid if server.place.account else None
    with subprocess.Popen(["sleep", "60"], user=owner) as other:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]))
        try:
            async with Postgres(data_dir, PASSWORD) as again:
                assert await ask(again, "select 1") == [(1,)]
            assert other.poll() is None
        finally:
            other.kill()


async def test_a_server_without_supervisor_is_ended_first(data_dir: Path) -> None:
    first = Postgres(data_dir, PASSWORD)
    async with first:
        assert first.child is not None
        async with Postgres(data_dir, PASSWORD) as second:
            assert process_identity(first.child.pid) is None
            assert await ask(second, "select 1") == [(1,)]


async def test_an_interrupted_initdb_leaves_nothing(data_dir: Path) -> None:
    server = Postgres(data_dir, PASSWORD)
    starting = asyncio.create_task(server.prepare())
    while not (data_dir / "postgres.new" / "PG_VERSION").exists():
        await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert [entry.name for entry in data_dir.iterdir()] == ["logs"]


async def test_another_password_is_explained(data_dir: Path) -> None:
    async with Postgres(data_dir, PASSWORD):
        pass
    with pytest.raises(PostgresFailed, match=r"another password than secrets\.json"):
        async with Postgres(data_dir, SecretStr("x")):
            pass


@as_root
async def test_root_keeps_the_database_of_a_closed_home_elsewhere(data_dir: Path) -> None:
    data_dir.chmod(0o700)
    try:
        async with Postgres(data_dir, PASSWORD) as server:
            assert await ask(server, "select 1") == [(1,)]
            assert server.place.cluster.is_relative_to("/var/lib/fineflow/clusters")
            assert server.place.cluster.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(server.place.cluster.parent)


@as_root
async def test_root_copies_programs_that_nobody_cannot_reach(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = find_place(data_dir).programs.parent
    closed = tmp_path / "closed"
    for folder in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.name, ignore=shutil.ignore_patterns("pginstall18"))
    closed.chmod(0o700)
    programs, shared = closed / wheel.name / "pginstall", data_dir / "shared"
    monkeypatch.setattr(postgres_place, "_wheel_programs", lambda: programs)
    monkeypatch.setattr(postgres, "find_place", lambda directory: find_place(directory, shared))
    async with Postgres(data_dir, PASSWORD) as server:
        assert server.place.programs.is_relative_to(shared)
        assert await ask(server, "select 1") == [(1,)]
    assert find_place(data_dir, shared) == server.place


def own_cluster(project: Path, shared: Path) -> Path:
    """The cluster of a project that `nobody` cannot enter, as if it had been used."""
    cluster = find_place(project, shared).cluster
    cluster.mkdir(exist_ok=True)
    return cluster


@as_root
def test_databases_of_removed_projects_are_pruned(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    kept, removed, again = (tmp_path / name for name in ("kept", "removed", "again"))
    for project in (kept, removed, again):
        project.mkdir(mode=0o700)
    clusters = {project: own_cluster(project, shared) for project in (kept, removed, again)}
    shutil.rmtree(removed)
    shutil.rmtree(again)
    again.mkdir(mode=0o700)
    assert own_cluster(again, shared) != clusters[again]  # its password went with its secrets
    prune(shared)
    assert set(shared.glob("clusters/*/postgres")) == {clusters[kept], own_cluster(again, shared)}


@as_root
def test_a_moved_project_keeps_its_database_and_a_copied_one_has_its_own(tmp_path: Path) -> None:
    shared, first, moved, copied = (tmp_path / name for name in ("shared", "first", "moved", "copied"))
    first.mkdir(mode=0o700)
    cluster = own_cluster(first, shared)
    first.rename(moved)
    assert own_cluster(moved, shared) == cluster
    shutil.copytree(moved, copied)
    assert own_cluster(copied, shared) != cluster
    assert own_cluster(moved, shared) == cluster


SCRIPT = """
import asyncio, sys
from pathlib import Path
from pydantic import SecretStr
from devstack.postgres import Postgres

async def main():
    async with Postgres(Path(sys.argv[1]), SecretStr("x")) as server:
        print(server.place.account)

asyncio.run(main())
"""


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_runs_as_an_ordinary_user(data_dir: Path) -> None:
    os.chown(data_dir, 65534, 65534)
    # These tests may run from root's closed home. The interpreter is read all the same, by a capability;
    # the programs of Postgres ask whether they may be run, so they are put where anybody may.
    site = Path(tempfile.mkdtemp(dir="/var/tmp"))
    site.chmod(0o755)
    (_copied(_wheel_programs(), site / "all").parent / "__init__.py").touch()
    (packages,) = (site / "all").glob("postgres-*")
    user = ["--reuid=65534", "--regid=65534", "--clear-groups"]
    power = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    try:
        done = subprocess.run(
            ["setpriv", *user, *power, sys.executable, "-c", SCRIPT, data_dir],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(packages)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        shutil.rmtree(site)
    assert (done.stdout, done.stderr, done.returncode) == ("None\n", "", 0)
