"""A stack that is made to be disturbed: Postgres, front door, functions and vendors, each a process.

Nobody supervises it but the test: the embedded stack itself ends when its Postgres does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from devstack import children
from devstack.install import PROJECT, ensure_installed
from devstack.ports import LOOPBACK, free_port, listen_from
from devstack.postgres import Postgres
from devstack.processes import Child, Command, kill_group
from devstack.secrets_file import load_secrets
from devstack.supabase_lite import bootstrap
from devstack.supervisor import Service, is_healthy
from tests.shared.jobs.chaos.app import TRAINERS_URL

_READY_SECONDS = 60.0


@dataclass
class Place:
    """What runs."""

    here: children.Surroundings
    postgres: Postgres
    front_door: Service
    functions: list[Service]
    openai_url: str
    trainers_url: str
    running: dict[str, Child] = field(default_factory=dict)  # by name of the service
    killed: set[int] = field(default_factory=set)  # pids
    # Whom nobody had killed: the driver of the front door does not always survive a lost connection.
    own_deaths: list[str] = field(default_factory=list)

    async def restart_postgres(self) -> None:
        """What `pg_ctl restart -m immediate` does: no checkpoint, no goodbye, then recovery from the log.

        Everything answers again afterwards, however busy the machine is.
        """
        child = self.running["postgres"]
        os.kill(child.pid, signal.SIGQUIT)
        await child.exited()
        self.running["postgres"] = child = Child(self.postgres.command())
        await self.postgres.wait_ready(child)
        await ready(self.front_door)

    async def kill(self, service: Service) -> None:
        """kill -9 in whatever it is doing; another takes its place and answers."""
        child = self.running[service.name]
        self.killed.add(child.pid)
        kill_group(child.pid)
        await child.exited()
        self.running[service.name] = Child(service.command)
        await ready(service)

    async def watch(self, services: list[Service]) -> None:
        """Starts again what ended by itself, until cancelled."""
        while True:
            for service in services:
                child = self.running[service.name]
                if child.returncode is not None and child.pid not in self.killed:
                    self.own_deaths.append(service.name)
                    self.running[service.name] = Child(service.command)
            await asyncio.sleep(0.5)


@asynccontextmanager
async def open_place(directory: Path, functions_count: int, seconds_per_state: float) -> AsyncIterator[Place]:
    """All of it answers; nothing of it is left afterwards. Enter it on the main thread."""
    await ensure_installed(lambda line: None)
    directory.chmod(0o711)  # root's Postgres runs as nobody
    for name in ("logs", "storage", "runs"):
        (directory / name).mkdir(mode=0o700)
    secrets = load_secrets(directory)
    listener = listen_from(free_port())
    ports = {name: free_port() for name in ("postgres", "functions", "realtime", "inference")}
    ports["front_door"] = listener.getsockname()[1]
    postgres = Postgres(directory, secrets.database_password, ports["postgres"])
    here = children.Surroundings(PROJECT, directory, secrets, ports, postgres.url)
    vendors = [_openai(here, seconds_per_state), _trainers(here, seconds_per_state)]
    urls = [service.health_url.rpartition("/_fake")[0] for service in vendors if service.health_url]
    front_door = children.front_door(here, listener.fileno())
    functions = [_functions(here, number, urls[1]) for number in range(functions_count)]
    place = Place(here, postgres, front_door, functions, openai_url=f"{urls[0]}/v1", trainers_url=urls[1])
    try:
        await postgres.prepare()
        place.running["postgres"] = Child(postgres.command())
        await postgres.wait_ready(place.running["postgres"])
        await bootstrap(postgres.url)
        for service in (front_door, *vendors, *functions):
            place.running[service.name] = Child(service.command)
        await asyncio.gather(*map(ready, (front_door, *vendors, *functions)))
        watching = asyncio.create_task(place.watch([front_door, *functions]))
        yield place
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    finally:
        order: list[Callable[[str], bool]] = [
            lambda name: name != "postgres",
            lambda name: name == "postgres",
        ]
        for chosen in order:
            await asyncio.gather(*(child.stop() for name, child in place.running.items() if chosen(name)))
        listener.close()


async def ready(service: Service) -> None:
    """It answers. Raises TimeoutError after a minute."""
    async with asyncio.timeout(_READY_SECONDS):
        while not await is_healthy(service):
            await asyncio.sleep(0.1)


def _functions(here: children.Surroundings, number: int, trainers_url: str) -> Service:
    """The first one is the one that the front door knows."""
    port = here.ports["functions"] if number == 0 else free_port()
    service = children.functions(replace(here, ports={**here.ports, "functions": port}))
    command = service.command
    argv = tuple(
        word.replace("functions.entry:app", "tests.shared.jobs.chaos.app:app") for word in command.argv
    )
    return replace(
        service,
        command=replace(
            command,
            name=f"functions-{number}",
            argv=argv,
            env={**command.env, TRAINERS_URL: trainers_url},
            log=here.data_dir / "logs" / f"functions-{number}.log",
        ),
    )


def _openai(here: children.Surroundings, seconds_per_state: float) -> Service:
    arguments = ("tests.fakes.openai", "--seconds-per-state", str(seconds_per_state))
    return _vendor(here, "openai", arguments)


def _trainers(here: children.Surroundings, seconds_per_state: float) -> Service:
    arguments = ("tests.shared.jobs.chaos.trainers", "--seconds-per-report", str(seconds_per_state))
    return _vendor(here, "trainers", arguments)


def _vendor(here: children.Surroundings, name: str, arguments: tuple[str, ...]) -> Service:
    port = free_port()
    command = Command(
        name=name,
        argv=(sys.executable, "-m", *arguments, "--port", str(port)),
        log=here.data_dir / "logs" / f"{name}.log",
        cwd=PROJECT,
        env={**os.environ, "TIKTOKEN_CACHE_DIR": str(children.TIKTOKEN_DIR)},
    )
    return Service(command, f"http://{LOOPBACK}:{port}/_fake/state")
