"""The embedded stack as one thing that starts, runs and ends.

Postgres first; then, at the same time, the front door (which applies the migrations) and the Python
servers; then the scheduler. Everything ends in the opposite order, however the start or the run ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg
from pydantic import SecretStr

from devstack import children
from devstack.install import PROJECT, InstallFailed, ensure_installed
from devstack.ports import LOOPBACK, free_port, listen_from
from devstack.postgres import Postgres, PostgresFailed
from devstack.scheduler import FunctionCaller, listen, run_schedules
from devstack.secrets_file import load_secrets, write_private
from devstack.stack_files import ChildRecord, DataDirLock, keep_one_old
from devstack.supabase_lite import bootstrap
from devstack.supervisor import Say, Service, StackFailed, Supervisor
from devstack.trainers import end_trainers

DEFAULT_PORT = 54321
DEMO_EMAIL, DEMO_PASSWORD = "demo@fineflow.local", "fineflow-demo"  # made by supabase/seed.sql


def default_data_dir() -> Path:
    """`FINEFLOW_DATA_DIR`, or `.fineflow` in the project."""
    return Path(os.environ.get("FINEFLOW_DATA_DIR") or PROJECT / ".fineflow")


class Stack:
    """`async with Stack(data_dir) as stack:` everything answers, until the block ends.

    Entering raises StackAlreadyRunning, or StackFailed naming what did not start. Enter it on the main
    thread. `children` names the servers to run; the scheduler runs where there is a functions server.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = DEFAULT_PORT,
        *,
        project: Path = PROJECT,
        children: Collection[str] = children.NAMES,
        say: Say = lambda line: None,
    ) -> None:
        self.data_dir = (data_dir or default_data_dir()).resolve()
        self.project = project.resolve()
        self.demo_email, self.demo_password = DEMO_EMAIL, DEMO_PASSWORD
        self._first_port = port
        self._names = frozenset(children)
        self._say = say
        self._lock = DataDirLock(self.data_dir)
        self._record = ChildRecord(self.data_dir)
        self._log_handler: logging.Handler | None = None
        self._supervisor: Supervisor | None = None
        self._listener: socket.socket | None = None

    async def __aenter__(self) -> Stack:
        self._make_data_dir()
        self._lock.acquire()
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def wait(self) -> None:
        """Returns never; raises StackFailed when the stack cannot go on."""
        assert self._supervisor is not None  # inside the block
        raise StackFailed(await self._supervisor.wait_failed())

    @property
    def info(self) -> dict[str, Any]:
        """What stack.json holds."""
        return {
            "url": self.url,
            "publishable_key": self.publishable_key,
            "secret_key": self.secret_key,
            "demo_email": self.demo_email,
            "demo_password": self.demo_password,
            "pid": os.getpid(),
            "ports": self.ports,
            "database_url": self.database_url,
        }

    def _make_data_dir(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        # Root's Postgres runs as `nobody`, who must get through, and need not see what else is here.
        self.data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for name in ("logs", "storage", "runs"):
            (self.data_dir / name).mkdir(mode=0o700, exist_ok=True)

    async def _start(self) -> None:
        try:
            listener = await self._prepare()
            await self._start_children(listener)
        except (InstallFailed, PostgresFailed, psycopg.Error, OSError, ValueError) as error:
            raise StackFailed(str(error)) from error
        write_private(self.data_dir / "stack.json", json.dumps(self.info, indent=2))

    async def _prepare(self) -> socket.socket:
        """What earlier runs left is ended, all packages are there, and every port is chosen; the front
        door's is held by the socket.
        """
        self._supervisor = Supervisor(self._record, self._say)
        for name in await self._record.end_leftovers():
            self._say(f"Ended {name}, which an earlier stack had left behind")
        (self.data_dir / "stack.json").unlink(missing_ok=True)
        await ensure_installed(self._say)
        secrets = self._secrets = load_secrets(self.data_dir)
        self.publishable_key = secrets.publishable_key
        self.secret_key = secrets.secret_key.get_secret_value()
        self.jwt_secret = secrets.jwt_secret.get_secret_value()
        self.function_secret = secrets.function_secret.get_secret_value()
        self._listener = listen_from(self._first_port)
        port: int = self._listener.getsockname()[1]
        if port != self._first_port:
            self._say(f"Port {self._first_port} is taken; using {port}")
        self.url = f"http://{LOOPBACK}:{port}"
        others = sorted(children.NAMES - {"front_door"})
        self.ports = {"front_door": port, **{name: free_port() for name in others}}
        return self._listener

    async def _start_children(self, listener: socket.socket) -> None:
        postgres = Postgres(self.data_dir, self._secrets.database_password, self.ports["postgres"])
        self.database_url = postgres.url.get_secret_value()
        await self._start_postgres(postgres)
        here = children.Surroundings(
            project=self.project,
            data_dir=self.data_dir,
            secrets=self._secrets,
            ports=self.ports,
            database_url=postgres.url,
        )
        services = [children.front_door(here, listener.fileno())]
        services += [
            make(here)
            for make in (children.functions, children.realtime, children.inference)
            if make.__name__ in self._names
        ]
        self._say(f"Starting {', '.join(service.name for service in services)}")
        supervisor = self._running_supervisor
        for service in services:
            supervisor.start(service)
        await supervisor.wait_ready([service for service in services if service.is_awaited])
        if "functions" in self._names:
            self._start_scheduler(here.url("functions"), postgres.url)

    async def _start_postgres(self, postgres: Postgres) -> None:
        self._say("Starting Postgres")
        keep_one_old(postgres.log)
        await postgres.prepare()
        service = Service(postgres.command(), health_url=None, can_restart=False)
        await postgres.wait_ready(self._running_supervisor.start(service))
        await bootstrap(postgres.url)

    def _start_scheduler(self, functions_url: str, database_url: SecretStr) -> None:
        self._log_handler = logging.FileHandler(self.data_dir / "logs" / "scheduler.log", mode="w")
        self._log_handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        scheduler_log = logging.getLogger("devstack.scheduler")
        scheduler_log.addHandler(self._log_handler)
        scheduler_log.propagate = False
        caller = FunctionCaller(functions_url, self._secrets.function_secret)
        for work in (
            caller.run(),
            listen(database_url, caller),
            run_schedules(database_url),
        ):
            self._running_supervisor.run(work)

    @property
    def _running_supervisor(self) -> Supervisor:
        assert self._supervisor is not None
        return self._supervisor

    async def _stop(self) -> None:
        """Nothing of the stack is left. A second cancellation waits until that is so."""
        stopping = asyncio.ensure_future(self._end_everything())
        cancelled = False
        while not stopping.done():
            try:
                await asyncio.shield(stopping)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _end_everything(self) -> None:
        (self.data_dir / "stack.json").unlink(missing_ok=True)
        if self._supervisor is not None:
            await self._supervisor.release()
            await self._supervisor.end("functions")  # it would start new trainers
            await end_trainers(self.data_dir)
            await self._supervisor.end(*(children.NAMES - {"postgres"}))
            await self._supervisor.end()
        if self._listener is not None:
            self._listener.close()
        if self._log_handler:
            logging.getLogger("devstack.scheduler").removeHandler(self._log_handler)
            self._log_handler.close()
        self._record.clear()
        self._lock.release()
