"""The test's end of the zygote: asks it for processes, and hears how they ended."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from devstack.install import PROJECT, TIKTOKEN_DIR
from tests.shared.jobs.crash.driver import Order


@dataclass(frozen=True)
class Ended:
    code: int
    effects: list[str]


class Zygote:
    """Forks a driver for each order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._tickets = itertools.count()
        self._waiting: dict[int, asyncio.Future[Ended]] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def start(cls, log: Path) -> AsyncIterator[Zygote]:
        with open(log, "ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.shared.jobs.crash.zygote",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr, cwd=PROJECT,
                env=_environment(log.parent),
            )  # fmt: skip
        zygote = cls(process)
        try:
            yield zygote
        finally:
            assert process.stdin
            process.stdin.close()
            await process.wait()
            await zygote._reader

    async def run(self, order: Order) -> Ended:
        """How the process ended that did this."""
        ticket = next(self._tickets)
        self._waiting[ticket] = asyncio.get_running_loop().create_future()
        assert self._process.stdin
        asked = {"ticket": ticket, "order": order.model_dump(mode="json")}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self._process.stdin.drain()
        try:
            return await self._waiting[ticket]
        finally:
            del self._waiting[ticket]

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.get(answer["ticket"])
            if waiting is not None and not waiting.done():
                waiting.set_result(Ended(answer["code"], answer["effects"]))
        for left in self._waiting.values():
            if left.done():
                continue
            left.set_exception(RuntimeError("the zygote has ended; its log says why"))


def _environment(no_certificates: Path) -> dict[str, str]:
    """Spares each driver reading a bundle of certificates: there is no TLS here."""
    env = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    return {**env, "SSL_CERT_DIR": str(no_certificates), "TIKTOKEN_CACHE_DIR": str(TIKTOKEN_DIR)}
