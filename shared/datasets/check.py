"""Everything that speaks against a file of examples: all findings counted, the first of each rule listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from shared.datasets.checker import Checker, Stats
from shared.datasets.examples import Example
from shared.datasets.file_rows import UNREADABLE
from shared.datasets.findings import Finding, FindingsOf
from shared.datasets.leaks import Leak, find_leaks
from shared.datasets.limits import Limits
from shared.datasets.reading import Detected, Reading
from shared.datasets.row_rules import texts_of
from shared.datasets.rows import read_rows
from shared.datasets.sources import ChatRun
from shared.tokens import count_tokens_of, counts_exactly

LISTED_A_RULE = 20
_PROGRESS_BYTES = 2**20
_COUNTED_AT_ONCE = 512  # rows


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
    *,
    exact_tokens: bool = False,
    progress: Callable[[int], None] | None = None,
) -> FileReport:
    """The report on a file, whatever it holds.

    exact_tokens: tokens are counted, which takes ten times as long as all the rest, and not estimated.
    progress: is told now and then how many bytes were read.
    """
    report = FileReport(path.name)
    reading = Reading(path, limits or Limits(), mapping or {})
    checker: Checker | None = None
    told = 0
    for batch in _batches(reading, exact_tokens):
        for item, tokens in batch:
            if isinstance(item, Finding):
                report.add(item, listed_a_rule)
                continue
            if checker is None:
                format = reading.detected.format if reading.detected else ""
                checker = Checker(format=format, file=path.name)
            if isinstance(item, ChatRun):
                found = checker.add_run(item)
            else:
                found = iter(checker.add(item, token_count=tokens))
            for finding in found:
                report.add(finding, listed_a_rule)
        if progress and reading.byte_count - told >= _PROGRESS_BYTES:
            told = reading.byte_count
            progress(told)
    report.detected, report.row_count = reading.detected, reading.row_count
    if checker:
        for finding in checker.finish(path.stat().st_size):
            report.add(finding, listed_a_rule)
        report.stats = checker.stats()
        report.example_count = report.stats.row_count
    return report


def _batches(
    reading: Reading, exact_tokens: bool
) -> Iterator[list[tuple[Example | ChatRun | Finding, int | None]]]:
    """What is read, some of it together, with the tokens of examples when they are to be counted."""
    if not exact_tokens or not counts_exactly():
        for item in reading.in_runs():
            yield [(item, None)]
        return
    items = iter(reading)
    while batch := list(islice(items, _COUNTED_AT_ONCE)):
        texts = [[*texts_of(item)] if isinstance(item, Example) else [] for item in batch]
        counts = iter(count_tokens_of([text for said in texts for text in said]))
        yield [(item, sum(islice(counts, len(said)))) for item, said in zip(batch, texts, strict=True)]


def check_files(
    paths: Sequence[Path],
    mapping: Mapping[str, str] | None = None,
    listed_a_rule: int = LISTED_A_RULE,
    *,
    exact_tokens: bool = False,
    progress: Callable[[Path, int], None] | None = None,
) -> list[FileReport]:
    """The reports on several files, that of a later one with what an earlier one gives away of it."""
    reports = []
    for path in paths:
        tell = partial(progress, path) if progress else None
        reports.append(
            check_file(path, None, mapping, listed_a_rule, exact_tokens=exact_tokens, progress=tell)
        )
    if len(paths) > 1:
        for leak in find_leaks([read_rows(path, skip_bad_rows=True) for path in paths]):
            reports[leak.second.file].add(_overlap(leak, paths), listed_a_rule)
    return reports


def _overlap(leak: Leak, paths: Sequence[Path]) -> Finding:
    where = f"line {leak.first.line} of {paths[leak.first.file].name}"
    if leak.kind == "source":
        says = f"Rests on the document {str(leak.source)[:60]!r}, as {where} does."
    else:
        alike = "the same as" if leak.kind == "exact" else f"nearly the same ({leak.similarity:.0%}) as"
        says = f"Says {alike} {where}."
    hint = "Take it out of one of them: what was trained on tests nothing. split keeps such rows together."
    finding = FindingsOf(paths[leak.second.file].name)
    return finding.warning("file_overlap", says, hint, leak.second.line)
