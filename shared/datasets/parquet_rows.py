"""The rows of a Parquet file, each as the JSON text that it would be on a line of JSONL.

What reads the file is native code, and the file may have been made to break it: a process of its own does it,
unless this one is confined already.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import orjson

from shared.confined import command, environment, is_confined
from shared.datasets.cells import shape_of_columns, values_of
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.json_rows import Problem, parse
from shared.datasets.limits import Limits
from shared.datasets.lines import Lines
from shared.datasets.sources import SourceRow

BROKEN = "broken_parquet"
_HINT = "Write or download the file again."
_MARKS_BYTES = 1024  # a line of the process beside its row


class Answer(NamedTuple):
    """One line of the process that reads: a row, what is wrong with a row or with the file, or the end."""

    mark: bytes  # + row, - bad row, ? warning about the file, ! nothing more can be read, . the end
    content: bytes

    @classmethod
    def about(cls, mark: bytes, rule: str, message: str, hint: str) -> Answer:
        return cls(mark, orjson.dumps([rule, message, hint]))


class ParquetRows:
    """Iterates once over the rows."""

    def __init__(self, path: Path, limits: Limits, findings: FindingsOf, renamed: Mapping[str, str]) -> None:
        self.row_count = 0
        self._path = path
        self._limits = limits
        self._findings = findings
        self._renamed = renamed

    def __iter__(self) -> Iterator[SourceRow | Finding]:
        for mark, content in self._answers():
            if mark == b"+":
                self.row_count += 1
                yield self._row(content)
            elif mark == b"-":
                self.row_count += 1
                rule, message, hint = orjson.loads(content)
                yield self._findings.error(rule, message, hint, self.row_count)
            elif mark == b"?":
                yield self._findings.warning(*orjson.loads(content))
            elif mark == b"!":
                yield self._findings.error(*orjson.loads(content))
                return
            else:
                return
        message = f"Reading it ended behind row {self.row_count:,}: it took too much time or memory."
        yield self._findings.error(BROKEN, message, _HINT)

    def _row(self, text: bytes) -> SourceRow | Finding:
        line = self.row_count
        value = parse(text, self._limits)
        if isinstance(value, Problem):
            return self._findings.error(value.rule, value.message, value.hint, line)
        own = {self._renamed.get(name, name): name for name in value}
        if len(own) < len(value):
            hint = "Take the column out that has the name already."
            return self._findings.error("mapping", "The mapping gives one name to two columns.", hint, line)
        named = {name: value[column] for name, column in own.items()}
        values = values_of(named, shape_of_columns(named), self._limits, empty=None)
        if isinstance(values, tuple):
            name, problem = values
            message = f"Column {own[name]!r}: {problem.message}"
            return self._findings.error(problem.rule, message, problem.hint, line)
        return SourceRow(line, {own[name]: cell for name, cell in values.items()})

    def _answers(self) -> Iterator[Answer]:
        if is_confined():
            from shared.datasets.parquet_child import answers

            yield from answers(self._path, self._limits)
            return
        child = subprocess.Popen(
            command(
                "shared.datasets.parquet_child", str(self._path.resolve()), json.dumps(asdict(self._limits))
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        try:
            assert child.stdout is not None
            for _, line in Lines(child.stdout, self._limits.line_bytes + _MARKS_BYTES):
                if line is not None:
                    yield Answer(line[:1], line[1:])
        finally:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
