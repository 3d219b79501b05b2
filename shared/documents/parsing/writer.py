"""Collects the blocks of a file as one Markdown text, and what the file hid at which place of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.documents.parsing.limits import Limits, too_large

_MAX_HIDDEN = 200
_MAX_HIDDEN_CHARS = 1000
# Postgres stores neither NUL nor lone surrogates; the other control characters are leftovers of fonts.
_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# What would turn a line of the document's own words into a heading or a fence.
_MARKER = re.compile(r"^([ \t]*)(?=#{1,6}(?:[ \t]|$)|`{3}|~{3})", re.M)


class Writer:
    """Blocks stand in the order they are written, parted by a blank line, or by a line break if tight."""

    def __init__(self, limits: Limits) -> None:
        self._limit_bytes = limits.text_bytes
        self._parts: list[str] = []
        self._chars = 0
        self._bytes = 0
        self._was_tight = False
        self._hidden: list[tuple[int, str]] = []
        self._pending: list[str] = []

    def heading(self, level: int, text: str) -> None:
        title = " ".join(clean(text).split())
        if title:
            self._write(f"{'#' * min(max(level, 1), 6)} {title}", tight=False)

    def paragraph(self, text: str) -> None:
        self._write(_MARKER.sub(r"\1\\", clean(text).strip()), tight=False)

    def item(self, text: str, *, depth: int = 0, mark: str = "-") -> None:
        lines = [line.strip() for line in clean(text).split("\n")]
        indent = "  " * min(depth, 8)
        self._write(f"{indent}{mark} " + f"\n{indent}  ".join(lines) if any(lines) else "", tight=True)

    def code(self, text: str) -> None:
        body = clean(text).strip("\n")
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
        self._write(f"{fence}\n{body}\n{fence}" if body.strip() else "", tight=False)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of cells; the first is the head."""
        cells = [[" ".join(clean(cell).replace("|", r"\|").split()) for cell in row] for row in rows]
        cells = [row for row in cells if any(row)]
        if not cells:
            return
        width = max(map(len, cells))
        lines = [f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in cells]
        lines.insert(1, "|" + " --- |" * width)
        self._write("\n".join(lines), tight=False)

    def hide(self, text: str) -> None:
        """Words that a reader would not see; they are no part of the text."""
        words = " ".join(clean(text).split())[:_MAX_HIDDEN_CHARS]
        if words and len(self._hidden) + len(self._pending) < _MAX_HIDDEN:
            self._pending.append(words)

    def text(self) -> str:
        return "".join([*self._parts, "\n"]) if self._parts else ""

    def hidden(self) -> list[tuple[int, str]]:
        """Each with its place: the character of the text that the next block begins at, or the last one."""
        return self._hidden + [(max(0, self._chars - 1), words) for words in self._pending]

    def _write(self, block: str, *, tight: bool) -> None:
        if not block:
            return
        if self._parts:
            block = ("\n" if tight and self._was_tight else "\n\n") + block
        self._bytes += len(block.encode())
        if self._bytes >= self._limit_bytes:
            raise too_large(
                f"The text of the document has more than {self._limit_bytes:,} bytes.",
                limitBytes=self._limit_bytes,
            )
        at = self._chars + len(block) - len(block.lstrip("\n"))
        self._hidden += [(at, words) for words in self._pending]
        self._pending = []
        self._parts.append(block)
        self._chars += len(block)
        self._was_tight = tight


def clean(text: str) -> str:
    return _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
