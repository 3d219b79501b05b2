"""What is told of an import when it has ended: what each file held, and why nothing came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from shared.datasets.check import LISTED_A_RULE
from shared.imports.options import ImportOptions

Report = dict[str, Any]  # FileReport.as_dict, and beside it what the reader counted: pairs, badRows, leftOut
Failure = dict[str, Any]  # {code, message, details}


def listed_a_rule(file_count: int) -> int:
    """How many findings of each rule are listed of one file, so that the report on many stays readable."""
    return max(1, LISTED_A_RULE // file_count)


def import_report(reports: Sequence[Report], options: ImportOptions) -> dict[str, Any]:
    """The column `import_report`."""
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for report in reports:
        counts.update(report["counts"])
        left_out.update(report["leftOut"])
    return {
        "valid": all(report["valid"] for report in reports),
        "files": list(reports),
        "totals": {
            "rows": sum(report["stats"]["totalRows"] for report in reports),
            "pairs": sum(report["pairs"] for report in reports),
            "badRows": sum(report["badRows"] for report in reports),
            "leftOut": dict(left_out),
            "counts": dict(counts),
        },
        "options": options.model_dump(mode="json", by_alias=True, exclude_defaults=True),
    }


def failure_of(reports: Sequence[Report], options: ImportOptions) -> Failure | None:
    """Why no dataset comes of these files; None when one does."""
    bad = [report for report in reports if report["errors"]]
    if unreadable := next((report for report in bad if not report["readable"]), None):
        return _first_error(unreadable, "file_unreadable", "Nothing was imported.")
    if bad and not options.skip_bad_rows:
        rows = sum(report["badRows"] for report in bad)
        many = f"Bad rows in all: {rows:,}; import_report has the first. " if rows > 1 else ""
        advice = f"{many}Nothing was imported: mend what is wrong, or leave bad rows out with skipBadRows."
        return _first_error(bad[0], "bad_rows", advice)
    if not any(report["pairs"] for report in reports):
        left_out = sum(sum(report["leftOut"].values()) for report in reports)
        message = (
            f"All {left_out:,} rows were left out by what was asked for. Ask for less."
            if left_out and not bad
            else "No row could be used. What is wrong with them is told in import_report."
        )
        return {"code": "no_pairs", "message": message}
    return None


def _first_error(report: Report, code: str, advice: str) -> Failure:
    error = report["errors"][0]
    where = f"{error['file']}, line {error['line']}" if error["line"] else str(error["file"])
    hint = f" {error['hint']}" if error["hint"] else ""
    details = {key: error[key] for key in ("file", "line", "column", "rule")}
    return {"code": code, "message": f"{where}: {error['message']}{hint} {advice}", "details": details}
