"""What is wrong with a row of a file, where it stands, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found. An error keeps its row, or its whole file, out; a warning does not.

    file is a name without its folder. line and column count from 1; the column counts bytes of the line. In
    Parquet, which has no lines, line is the number of the row. None for a line means the whole file; None for
    a column, the whole line.
    """

    rule: str
    severity: Severity
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    @property
    def is_error(self) -> bool:
        return self.severity == "error"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class FindingsOf:
    """Makes the findings of one file; file: None when rows are in none."""

    def __init__(self, file: str | None) -> None:
        self._file = file

    def error(
        self, rule: str, message: str, hint: str, line: int | None = None, column: int | None = None
    ) -> Finding:
        return Finding(rule, "error", message, self._file, line, column, hint)

    def warning(
        self, rule: str, message: str, hint: str, line: int | None = None, column: int | None = None
    ) -> Finding:
        return Finding(rule, "warning", message, self._file, line, column, hint)
