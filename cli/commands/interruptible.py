"""Long work on files in a thread of its own, so that Ctrl-C ends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cli.screen.bars import file_bar
from cli.screen.output import notes

T = TypeVar("T")
Tell = Callable[[Path, int], None]  # is told of which file how many bytes are read; ends the work by raising

QUICK_BYTES = 8 * 2**20  # what takes no longer than a second or two needs no bar


class _Stopped(Exception):
    """Nobody waits for the work any more."""


async def with_bar(paths: list[Path], work: Callable[[Tell], T]) -> T:
    """What `work` returns; a bar shows how far it is when the files are large."""
    sizes = {path: path.stat().st_size if path.is_file() else 0 for path in paths}
    stop = threading.Event()
    if sum(sizes.values()) <= QUICK_BYTES:
        return await _in_thread(work, lambda path, count: _heed(stop), stop)
    with file_bar(notes()) as bar:

        def tell(path: Path, byte_count: int) -> None:
            _heed(stop)
            bar.update({"name": path.name, "bytes_done": byte_count, "byte_count": sizes[path]})

        return await _in_thread(work, tell, stop)


def _heed(stop: threading.Event) -> None:
    if stop.is_set():
        raise _Stopped


async def _in_thread(work: Callable[[Tell], T], tell: Tell, stop: threading.Event) -> T:
    try:
        return await asyncio.to_thread(work, tell)
    finally:
        stop.set()
