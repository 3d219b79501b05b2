"""The lines of a file of any size, with no more than one of them and one block in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

BLOCK_BYTES = 2**16  # fits into the cache of a processor core, so that looking at it again costs little


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
        for number, _, lines in self.blocks():
            yield from enumerate(lines, start=number)

    def blocks(self) -> Iterator[tuple[int, bytes, list[bytes | None]]]:
        """The number of the first of some lines, their bytes as they stand together, and these lines."""
        number, rest, is_skipping = 1, b"", False
        while block := self._stream.read(BLOCK_BYTES):
            cut = block.rfind(b"\n")
            if cut >= 0:
                text = rest + block[:cut]
                lines = self._checked(number, text)
                if is_skipping:
                    lines[0] = None
                yield number, text, lines
                number, rest, is_skipping = number + len(lines), block[cut + 1 :], False
            elif not is_skipping:
                rest += block
            if len(rest) > self._line_bytes + 1:  # one more for a CR
                rest, is_skipping = b"", True
        if rest or is_skipping:
            self.is_open = True
            yield number, rest, [None if is_skipping or len(rest) > self._line_bytes else rest]

    def _checked(self, number: int, text: bytes) -> list[bytes | None]:
        """The lines of the text, without their CR, and without those that are too long."""
        found = text.split(b"\n")
        if not self._keep_cr and b"\r" in text:
            for place, line in enumerate(found):
                if line[-1:] == b"\r":
                    found[place] = line[:-1]
                    self.first_crlf = self.first_crlf or number + place
        lines: list[bytes | None] = [*found]
        if max(map(len, found)) > self._line_bytes:
            lines = [line if len(line) <= self._line_bytes else None for line in found]
        return lines
