"""One key at a time from the terminal, and texts from an editor."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
import termios
import tty
from pathlib import Path
from typing import Self

from cli.exits import CliError, ExitCode

END = "\x04"  # Ctrl-D, and a terminal that went away


class Keyboard:
    """`with Keyboard() as keyboard:` keys arrive one by one and are not echoed; Ctrl-C still interrupts."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._descriptor)

    def __enter__(self) -> Self:
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    async def next_key(self) -> str:
        """The next key. What arrives at once is one key: an arrow, or a paste, which then means nothing."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[str] = loop.create_future()

        def read() -> None:
            loop.remove_reader(self._descriptor)
            try:
                data = os.read(self._descriptor, 1024)
            except OSError:
                data = b""
            arrived.set_result(data.decode(errors="replace") or END)

        loop.add_reader(self._descriptor, read)
        try:
            return await arrived
        finally:
            loop.remove_reader(self._descriptor)

    async def edit(self, text: str) -> str | None:
        """The text as the user left it in an editor; None when it is the same. Raises CliError."""
        self.__exit__()
        try:
            return await edited(text)
        finally:
            self.__enter__()


async def edited(text: str) -> str | None:
    """The text as it was left in $VISUAL or $EDITOR, or vi; None when it is the same. Raises CliError."""
    program = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.md"
        path.write_text(text, encoding="utf-8")
        try:
            process = await asyncio.create_subprocess_exec(*shlex.split(program), path)
        except (OSError, ValueError):
            hint = "Set EDITOR to one that is installed."
            raise CliError(
                f"The editor {program!r} cannot be started.", hint=hint, exit_code=ExitCode.USAGE
            ) from None
        status = await process.wait()
        written = path.read_text(encoding="utf-8").rstrip("\n")
    return None if status or written == text.rstrip("\n") else written
