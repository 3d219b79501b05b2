"""Everything that speaks against a file of examples: all findings counted, the first of each rule listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.datasets.checker import Checker, Stats
from shared.datasets.file_rows import UNREADABLE
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.reading import Detected, Reading
from shared.datasets.sources import ChatRun

LISTED_A_RULE = 20


@dataclass
class FileReport:
    """What was found in one file. `findings` has the first ones of each rule, `counts` counts all."""

    file: str
    detected: Detected | None = None
    row_count: int = 0
    example_count: int = 0  # rows without an error
    stats: Stats | None = None  # None: no row could be read, or none was asked for
    error_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def is_valid(self) -> bool:
        return self.error_count == 0

    @property
    def is_readable(self) -> bool:
        return not UNREADABLE & self.counts.keys()

    def add(self, finding: Finding, listed_a_rule: int) -> None:
        self.counts[finding.rule] += 1
        self.error_count += finding.is_error
        if self.counts[finding.rule] <= listed_a_rule:
            self.findings.append(finding)

    def as_dict(self) -> dict[str, Any]:
        """In the shape of the function validate-dataset, with the file's own facts beside it."""
        counted = {"totalPairs": self.example_count, "totalRows": self.row_count}
        return {
            "file": self.file,
            "valid": self.is_valid,
            "readable": self.is_readable,
            "format": self.detected.format if self.detected else None,
            "evidence": self.detected.evidence if self.detected else None,
            "errors": [finding.as_dict() for finding in self.findings if finding.is_error],
            "warnings": [finding.as_dict() for finding in self.findings if not finding.is_error],
            "counts": dict(self.counts),
            "stats": (self.stats.as_dict() if self.stats else {}) | counted,
        }


def check_file(
    path: Path,
    limits: Limits | None = None,
    mapping: Mapping[str, str] | None = None,
    listed_a_rule: int = LISTED_A_RULE,
) -> FileReport:
    """The report on a file, whatever it holds."""
    report = FileReport(path.name)
    reading = Reading(path, limits or Limits(), mapping or {})
    checker: Checker | None = None
    for item in reading.in_runs():
        if isinstance(item, Finding):
            report.add(item, listed_a_rule)
            continue
        if checker is None:
            format = reading.detected.format if reading.detected else ""
            checker = Checker(format=format, file=path.name)
        for finding in checker.add_run(item) if isinstance(item, ChatRun) else checker.add(item):
            report.add(finding, listed_a_rule)
    report.detected, report.row_count = reading.detected, reading.row_count
    if checker:
        for finding in checker.finish(path.stat().st_size):
            report.add(finding, listed_a_rule)
        report.stats = checker.stats()
        report.example_count = report.stats.row_count
    return report
