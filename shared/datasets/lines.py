"""The lines of a file of any size, with no more than one of them and one block in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

BLOCK_BYTES = 2**16  # fits into the cache of a processor core, so that looking at it again costs little


class Block(NamedTuple):
    """Whole lines as they stand together, without the last newline; is_cut: the first was over the limit, and
    only its end is there.
    """

    text: bytes
    is_cut: bool


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
        first = 1
        for block in self.blocks():
            lines = self.split(block, first)
            yield from enumerate(lines, start=first)
            first += len(lines)

    def blocks(self) -> Iterator[Block]:
        rest, is_skipping = b"", False
        while block := self._stream.read(BLOCK_BYTES):
            cut = block.rfind(b"\n")
            if cut >= 0:
                yield Block(rest + block[:cut], is_skipping)
                rest, is_skipping = block[cut + 1 :], False
            elif not is_skipping:
                rest += block
            if len(rest) > self._line_bytes + 1:  # one more for a CR
                rest, is_skipping = b"", True
        if rest or is_skipping:
            self.is_open = True
            yield Block(rest, is_skipping)

    def split(self, block: Block, first: int) -> list[bytes | None]:
        """The lines of the block given last, as iterating gives them; first: the number of their first."""
        found = block.text.split(b"\n")
        if not self._keep_cr and b"\r" in block.text and not self.is_open:
            for place, line in enumerate(found):
                if line[-1:] == b"\r":
                    found[place] = line[:-1]
                    self.first_crlf = self.first_crlf or first + place
        lines: list[bytes | None] = [*found]
        if max(map(len, found)) > self._line_bytes:
            lines = [line if len(line) <= self._line_bytes else None for line in found]
        if block.is_cut:
            lines[0] = None
        return lines
