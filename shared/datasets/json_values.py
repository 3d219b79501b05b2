"""The values of a JSON list, or values one after another, with no more than one of them in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from shared.datasets.lines import BLOCK_BYTES

_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')

Place = tuple[int, int, bytes | None]  # line and column of the beginning, from 1; None: over the limit


class Values:
    """Iterates once over the values' texts.

    Brackets alone part them: a value that is no JSON stops no other.
    end: what is wrong with the list as a whole, once all values are given; None when nothing is.
    """

    def __init__(self, stream: BinaryIO, value_bytes: int, *, in_list: bool) -> None:
        self._stream = stream
        self._value_bytes = value_bytes
        self._base = 1 if in_list else 0  # how many brackets are open around a value
        self._line, self._column = 1, 1
        self._start: tuple[int, int] | None = None  # of the value that is being read
        self._parts: list[bytes] = []
        self._size = 0
        self.end: str | None = None

    def __iter__(self) -> Iterator[Place]:
        depth, in_string, is_escaped, is_over, count = 0, False, False, False, 0
        while block := self._stream.read(BLOCK_BYTES):
            at, begin = int(is_escaped), 0
            is_escaped = False
            while not is_over and (match := (_INSIDE if in_string else _OUTSIDE).search(block, at)):
                mark, at = match.group(), match.end()
                if in_string and mark == b"\\":
                    at, is_escaped = at + 1, at >= len(block)
                elif mark == b'"':
                    in_string = not in_string
                elif mark in (b"[", b"{"):
                    depth += 1
                    if depth == 1 == self._base:
                        self._moved(block[begin:at])
                        begin = at
                elif mark in (b"]", b"}"):
                    depth = max(depth - 1, 0)
                    cut = at - self._base
                    if depth == 0 and (count or not self._base or self._has_text(block[begin:cut])):
                        yield self._value(block[begin:cut])
                    if depth == 0:
                        begin, is_over = at, bool(self._base)
                elif depth == 1 == self._base:
                    yield self._value(block[begin : at - 1])
                    self._moved(b",")
                    count, begin = count + 1, at
            if not is_over:
                self._keep(block[begin:])
            elif block[begin:].strip():
                self.end = "Something stands behind the end of the list."
        if self._base and not is_over:
            self.end = "The file ends within the list."
        if self._has_text(b""):
            yield self._value(b"")

    def _value(self, last: bytes) -> Place:
        """The value that ends with this part, without the blanks around it; its memory is given back."""
        self._keep(last)
        line, column = self._start or (self._line, self._column)
        text = None if self._size > self._value_bytes else b"".join(self._parts)
        self._moved(text or b"")
        self._start, self._parts, self._size = None, [], 0
        return line, column, None if text is None else text.rstrip()

    def _keep(self, part: bytes) -> None:
        if self._start is None:
            text = part.lstrip()
            self._moved(part[: len(part) - len(text)])
            part = text
            self._start = (self._line, self._column) if text else None
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._value_bytes:
            self._moved(b"".join(self._parts))
            self._parts = []

    def _has_text(self, more: bytes) -> bool:
        return self._start is not None or bool(more.strip())

    def _moved(self, text: bytes) -> None:
        breaks = text.count(b"\n")
        self._line += breaks
        self._column = len(text) - text.rfind(b"\n") if breaks else self._column + len(text)
