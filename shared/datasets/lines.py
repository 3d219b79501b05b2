"""The lines of a file of any size, with no more than one of them and one block in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

BLOCK_BYTES = 2**18


class Lines:
    """Iterates once over (number from 1, line without its newline); None for a line over `line_bytes`.

    keep_cr: a CR before the newline is left on, for whom it may be text.
    first_crlf: the number of the first line that ended in CRLF so far; None when there was none.
    is_open: whether the line given last had no newline, which only the last one of a file can lack.
    """

    def __init__(self, stream: IO[bytes], line_bytes: int, *, keep_cr: bool = False) -> None:
        self._stream = stream
        self._line_bytes = line_bytes
        self._keep_cr = keep_cr
        self.first_crlf: int | None = None
        self.is_open = False

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        number, rest, is_skipping = 0, b"", False
        while block := self._stream.read(BLOCK_BYTES):
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                number += 1
                if is_skipping or len(line) > self._line_bytes + 1:  # one more for a CR
                    is_skipping = False
                    yield number, None
                    continue
                if line[-1:] == b"\r" and not self._keep_cr:
                    line = line[:-1]
                    self.first_crlf = self.first_crlf or number
                yield number, line if len(line) <= self._line_bytes else None
            if is_skipping or len(rest) > self._line_bytes + 1:
                is_skipping, rest = True, b""
        if rest or is_skipping:
            self.is_open = True
            yield number + 1, None if is_skipping or len(rest) > self._line_bytes else rest
