"""The rows of a JSON file: one a line, in a list, or as objects over several lines."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, Literal

import orjson

from shared.datasets.chats import in_runs
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.json_rows import Problem, parse
from shared.datasets.json_values import Values
from shared.datasets.limits import Limits
from shared.datasets.lines import Lines
from shared.datasets.sources import ChatRun, SourceRow

Layout = Literal["lines", "list", "values"]


def layout_of(head: bytes, suffix: str) -> Layout:
    """How rows stand in a file that begins so: one a line, in a list, or as objects over lines (.json)."""
    start = head.lstrip()
    first = start.partition(b"\n")[0]
    is_alone = not start[len(first) :].strip()
    if start[:1] == b"[" and (suffix == ".json" or is_alone or not _is_json(first)):
        return "list"
    return "values" if start[:1] == b"{" and suffix == ".json" and not _is_json(first) else "lines"


class JsonRows:
    """Iterates once over the rows, from where the stream stands.

    in_runs: from now on lines that are plain chats are given together, as ChatRun.
    """

    def __init__(self, stream: BinaryIO, layout: Layout, limits: Limits, findings: FindingsOf) -> None:
        self.row_count = 0
        self.in_runs = False
        self._stream = stream
        self._layout = layout
        self._limits = limits
        self._findings = findings

    def __iter__(self) -> Iterator[SourceRow | ChatRun | Finding]:
        return self._of_lines() if self._layout == "lines" else self._of_values()

    def _of_lines(self) -> Iterator[SourceRow | ChatRun | Finding]:
        lines, number = Lines(self._stream, self._limits.line_bytes), 1
        for block in lines.blocks():
            split = partial(lines.split, block, number)
            may_run = self.in_runs and not block.is_cut
            for item in in_runs(block.text, split, self._limits) if may_run else split():
                if isinstance(item, list):
                    self.row_count += len(item)
                    yield ChatRun(number, item)
                    number += len(item)
                else:
                    yield self._of_line(number, item, is_open=lines.is_open)
                    number += 1
        if lines.first_crlf:
            message = "Lines end in CR LF, as on Windows; read as LF."
            yield self._findings.warning("crlf", message, "Save with LF.", lines.first_crlf)

    def _of_line(self, number: int, line: bytes | None, *, is_open: bool) -> SourceRow | Finding:
        if line is None or line.strip():
            return self._row(number, 1, line, is_open=is_open)
        return self._findings.warning("empty_line", "The line is empty.", "Take the line out.", number)

    def _of_values(self) -> Iterator[SourceRow | Finding]:
        values = Values(self._stream, self._limits.line_bytes, in_list=self._layout == "list")
        for line, column, text in values:
            yield self._row(line, column, text, is_open=values.end is not None)
        if values.end:
            hint = "Write or download the file again, as one JSON list."
            yield self._findings.error("broken_list", values.end, hint)

    def _row(self, line: int, column: int, text: bytes | None, *, is_open: bool) -> SourceRow | Finding:
        self.row_count += 1
        if text is None:
            message = f"The row has more than {self._limits.line_bytes:,} bytes."
            return self._findings.error("line_too_long", message, "Shorten the row or split it.", line)
        value = parse(text, self._limits)
        if type(value) is dict:
            return SourceRow(line, value, text)
        if isinstance(value, Problem):
            return self._problem(value, line, column, text, is_open=is_open)
        hint = 'Write objects: {"messages": [...]}.'
        return self._findings.error("not_an_object", "The row is no JSON object.", hint, line, column)

    def _problem(self, problem: Problem, line: int, column: int, text: bytes, *, is_open: bool) -> Finding:
        place: int | None = None
        if problem.offset is not None:
            before = text[: problem.offset]
            line += before.count(b"\n")
            place = problem.offset - before.rfind(b"\n") + (0 if b"\n" in before else column - 1)
        if is_open and problem.rule == "json_syntax":
            message = "The last row breaks off: the file ends within it."
            hint = "Write or download the file again; it is incomplete."
            return self._findings.error("unclosed_last_line", message, hint, line, place)
        return self._findings.error(problem.rule, problem.message, problem.hint, line, place)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
