"""How an import and what was found in its files look on a terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from rich.console import Group, RenderableType
from rich.text import Text

from cli.backend.client import Row
from cli.screen.dataset_files import findings_table
from cli.screen.datasets import dataset_facts
from cli.screen.output import cell
from shared.datasets.check import FileReport
from shared.datasets.findings import Finding

SHOWN_A_RULE = 3


def import_view(dataset: Row) -> RenderableType:
    """The dataset, then each file with its format and what was found in it."""
    parts = [dataset_facts(dataset)]
    report = dataset.get("import_report") or {"files": []}
    for file in report["files"]:
        parts += [Text(), cell(_file_line(file))]
        if file["counts"]:
            parts.append(findings_table(_file_report(file)))
    return Group(*parts)


def _file_line(file: Row) -> str:
    read = f"{file['file']}: {file['pairs']:,} pairs of {file['stats']['totalRows']:,} rows"
    bad = f", {file['badRows']:,} bad" if file["badRows"] else ""
    left_out = sum(file["leftOut"].values())
    chosen = f", {left_out:,} left out" if left_out else ""
    return read + bad + chosen + (f"; {file['format']}: {file['evidence']}" if file["format"] else "")


def _file_report(file: Row) -> FileReport:
    """The findings as they were, the first few of each rule."""
    known = {field.name for field in fields(Finding)}
    report = FileReport(file["file"])
    for one in (*file["errors"], *file["warnings"]):
        report.add(Finding(**{name: one[name] for name in known & one.keys()}), SHOWN_A_RULE)
    report.counts = Counter(file["counts"])
    return report
