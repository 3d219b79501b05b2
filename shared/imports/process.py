"""Files of rows, read by a process of their own that may die without harm."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from shared.confined import command, environment
from shared.datasets.limits import Limits
from shared.imports.options import ImportOptions

BATCH_ROWS = 2000
SILENCE_SECONDS = 60.0  # a batch takes a second; whatever takes so long is a trap
_LINE_BYTES = 64 * 2**20  # more than the largest batch


class ReaderDied(Exception):
    """The process ended, or had to be ended, before it had read the file."""


@dataclass(frozen=True)
class Batch:
    """What was read since the batch before it; counts are of the whole file so far."""

    pairs: list[dict[str, Any]]  # columns of training_pairs
    rows: int
    bytes: int
    state: dict[str, Any]  # from which reading can be taken up behind this batch
    report: dict[str, Any] | None  # None: there is more to come of this file


class RowReader:
    """`async with RowReader(options, listed_a_rule=20) as reader`: no process is left behind."""

    def __init__(
        self,
        options: ImportOptions,
        *,
        listed_a_rule: int,
        batch_rows: int = BATCH_ROWS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._silence_seconds = silence_seconds
        self._start = {
            "options": options.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "limits": asdict(Limits()),
            "listed_a_rule": listed_a_rule,
            "batch_rows": batch_rows,
        }

    async def __aenter__(self) -> Self:
        cache = os.environ.get("TIKTOKEN_CACHE_DIR")
        self._child = await asyncio.create_subprocess_exec(
            *command("shared.imports.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(**({"TIKTOKEN_CACHE_DIR": cache} if cache else {})),
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        await self._send(self._start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        await self._child.wait()

    async def read(
        self, path: Path, *, state: dict[str, Any], is_refused: bool
    ) -> AsyncGenerator[Batch, None]:
        """The pairs of a file until its report, from where `state` was told; none when it is refused anyhow.

        Raises ReaderDied.
        """
        await self._send({"path": str(path), "state": state, "is_refused": is_refused})
        while True:
            batch = await self._next()
            yield batch
            if batch.report is not None:
                return

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # then reading tells that it died
            self._child.stdin.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
            await self._child.stdin.drain()

    async def _next(self) -> Batch:
        assert self._child.stdout is not None
        try:
            line = await asyncio.wait_for(self._child.stdout.readline(), self._silence_seconds)
        except TimeoutError:
            raise ReaderDied(f"it took over {self._silence_seconds:g} s to read a few rows") from None
        if not line.endswith(b"\n"):
            raise ReaderDied("it ended the program that read it")
        return Batch(**orjson.loads(line))
