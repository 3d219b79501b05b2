"""Postgres 16 of our own: loopback TCP only, password always, logical replication on.

The wheel's own launcher serves a Unix socket only, so its binaries are used by path.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psycopg
from pydantic import SecretStr

from devstack.ports import LOOPBACK, free_port
from devstack.postgres_place import find_place, live_postmaster
from devstack.processes import Child, Command, describe_exit, last_lines, process_identity

READY_SECONDS = 90.0  # crash recovery replays up to a checkpoint's worth of work
INITDB_SECONDS = 120.0
# The C locale exists everywhere; where C.UTF-8 does not, the character type comes from the system.
LOCALE = ["--locale=C.UTF-8"] if sys.platform == "linux" else ["--locale=C", "--lc-ctype=en_US.UTF-8"]
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path may not be longer than 107 bytes
    "wal_level": "logical",
    "max_connections": "100",
    "max_slot_wal_keep_size": "1GB",  # a forgotten slot must not fill the disk
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresFailed(Exception):
    """Postgres could not be started; the message holds the end of its log."""


class Postgres:
    """One database server of one data directory. `async with Postgres(...)` starts and stops it;
    the supervisor uses `prepare`, `command` and `wait_ready` instead, and keeps the child itself.
    """

    def __init__(self, data_dir: Path, password: SecretStr, port: int | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.password = password
        self.port = port or free_port()
        self.log = self.data_dir / "logs" / "postgres.log"
        self.child: Child | None = None

    @property
    def url(self) -> SecretStr:
        """Connects as the superuser `postgres`."""
        password = quote(self.password.get_secret_value(), safe="")
        return SecretStr(f"postgresql://postgres:{password}@{LOOPBACK}:{self.port}/postgres")

    async def __aenter__(self) -> Postgres:
        await self.prepare()
        self.child = Child(self.command())
        try:
            await self.wait_ready(self.child)
        except BaseException:
            await self.child.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child:
            await self.child.stop()

    async def prepare(self) -> None:
        """The cluster exists and no server runs on it. Raises PostgresFailed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.place = find_place(self.data_dir)
        await self._end_leftover()
        if not (self.place.cluster / "PG_VERSION").exists():
            await self._initdb()

    def command(self) -> Command:
        """The server itself, as a child to watch. `prepare` comes first."""
        settings = {**SETTINGS, "port": str(self.port)}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self._command("postgres", "-D", str(self.place.cluster), *flags)

    async def wait_ready(self, child: Child) -> None:
        """The server answers queries. Raises PostgresFailed when it ends or takes over 90 seconds."""
        deadline = time.monotonic() + READY_SECONDS
        reason = ""
        while time.monotonic() < deadline:
            if child.returncode is not None:
                raise self._failure(f"Postgres ended with {describe_exit(child.returncode)}")
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self.url.get_secret_value(), connect_timeout=5
                )
            except psycopg.OperationalError as error:
                reason = str(error)
                if "password authentication failed" in reason:
                    raise PostgresFailed(
                        f"the database in {self.place.cluster} has another password than secrets.json; "
                        "put that file back, or remove the database to start an empty one"
                    ) from None
                await asyncio.sleep(0.02)
            else:
                await connection.close()
                return
        raise self._failure(f"Postgres was not ready after {READY_SECONDS:.0f} s ({reason})")

    async def _initdb(self) -> None:
        """Builds beside the final place and renames, so that an interrupted run leaves no half cluster."""
        cluster = self.place.cluster
        partial = cluster.with_name("postgres.new")
        password_file = cluster.with_name("postgres.password")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.password.get_secret_value() + "\n")
        if account := self.place.account:
            for path in (partial, password_file):
                os.chown(path, account.uid, account.gid)
        child = Child(
            self._command(
                "initdb",
                *("-D", str(partial), "-U", "postgres", "--encoding=UTF8", *LOCALE),
                *("--auth=scram-sha-256", f"--pwfile={password_file}"),
                "--no-sync",  # nothing to lose yet
            )
        )
        try:
            code = await asyncio.wait_for(child.exited(), INITDB_SECONDS)
            if code != 0:
                raise self._failure(f"initdb ended with {describe_exit(code)}")
            partial.rename(cluster)
        finally:
            await child.stop()
            password_file.unlink(missing_ok=True)
            shutil.rmtree(partial, ignore_errors=True)

    async def _end_leftover(self) -> None:
        """Whoever starts the stack holds its lock, so a live server here lost its supervisor; a dead one
        may have left a pid that another process has now, and Postgres would refuse to start.
        """
        cluster = self.place.cluster
        pid = live_postmaster(cluster)
        if pid is None:
            (cluster / "postmaster.pid").unlink(missing_ok=True)
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + 20
        while process_identity(pid) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGQUIT)
                deadline += 20
            await asyncio.sleep(0.05)

    def _command(self, program: str, *arguments: str) -> Command:
        return Command(
            name="postgres",
            argv=(str(self.place.programs / "bin" / program), *arguments),
            log=self.log,
            env={"LC_ALL": "C.UTF-8" if sys.platform == "linux" else "en_US.UTF-8", "PATH": "/usr/bin:/bin"},
            account=self.place.account,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, then writes a checkpoint
        )

    def _failure(self, what: str) -> PostgresFailed:
        return PostgresFailed("\n".join([f"{what}; the end of {self.log}:", *last_lines(self.log)]))
