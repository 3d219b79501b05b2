"""How files of training rows and what was found in them look on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from cli.screen.output import cell, table

if TYPE_CHECKING:  # they bring all checks along, which --help does not wait for
    from shared.datasets.check import FileReport
    from shared.datasets.checker import Stats
    from shared.datasets.findings import Finding


def reports_view(reports: Sequence[FileReport]) -> RenderableType:
    """Each file's verdict and format, then its findings by rule."""
    return Group(*(part for report in reports for part in _report(report)))


def conversion_view(report: FileReport, output: str, *, is_written: bool) -> RenderableType:
    """How many rows were written where, then what was found on the way."""
    head = cell(f"{report.example_count:,} of {report.row_count:,} rows written to {output}")
    if not is_written:
        head = Text("Nothing was written", style="bold red")
        head.append(": rows with errors are left out with --skip-bad." if report.example_count else ".")
    return Group(head, findings_table(report)) if report.counts else head


def _report(report: FileReport) -> list[RenderableType]:
    verdict = ("Valid", "bold green") if report.is_valid else ("Not valid", "bold red")
    head = Text.assemble(cell(report.file), ": ", verdict)
    head.append(f", {report.example_count:,} of {report.row_count:,} rows can be trained on")
    parts: list[RenderableType] = [head]
    if report.detected:
        parts.append(cell(f"format {report.detected.format}: {report.detected.evidence}"))
    if report.stats:
        parts += map(cell, _facts(report.stats))
    if report.counts:
        parts.append(findings_table(report))
    return parts


def _facts(stats: Stats) -> Iterator[str]:
    how = "counted" if stats.is_exact else "estimated"
    yield f"{stats.mean_tokens:,.0f} tokens a row ({how}), {stats.question_count:,} different questions"
    bins = [(low, high, rows) for low, high, rows in stats.bins() if rows]
    if len(bins) > 1:
        yield "rows by tokens: " + ", ".join(
            f"{f'below {high:,}' if high else f'{low:,} or more'}: {rows:,}" for low, high, rows in bins
        )
    if len(stats.languages) > 1:
        yield "languages: " + ", ".join(f"{code} {share:.0%}" for code, share in stats.languages.items())


def findings_table(report: FileReport) -> RenderableType:
    """The listed findings, those of one rule together, and how many more there are of it."""
    rows: list[tuple[object, ...]] = []
    for rule, count in report.counts.items():
        listed = [finding for finding in report.findings if finding.rule == rule]
        rows += [(finding.severity, rule, _place(finding), _said(finding)) for finding in listed]
        if count > len(listed):
            rows.append(("", rule, "", f"... {count - len(listed):,} more of {count:,}"))
    return table(("", "rule", "line", "what it is, and what to do"), rows, empty="Nothing was found.")


def _place(finding: Finding) -> str:
    if finding.line is None:
        return "-"
    return f"{finding.line}:{finding.column}" if finding.column else str(finding.line)


def _said(finding: Finding) -> str:
    return f"{finding.message} {finding.hint or ''}".strip()
