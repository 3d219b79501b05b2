"""How datasets and their findings look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.backend.client import Row
from cli.screen.output import cell, facts, moment, short, table

SHOWN_FINDINGS = 20


def datasets_table(datasets: Sequence[Row]) -> RenderableType:
    """One line a dataset."""
    return table(
        ("id", "name", "status", "pairs", "chunks", "valid", "created"),
        (
            (
                short(row["id"]),
                row["name"],
                row["status"],
                row["pair_count"],
                f"{row['chunks_done']}/{row['chunk_count']}",
                _validity(row),
                moment(row["created_at"]),
            )
            for row in datasets
        ),
        empty="No datasets yet. Make one with `fineflow datasets create NAME`.",
    )


def dataset_facts(row: Row, pairs: Sequence[Row] = ()) -> RenderableType:
    """One dataset, with a few of its pairs."""
    error = row.get("error") or {}
    about = facts(
        [
            ("id", row["id"]),
            ("name", row["name"]),
            ("status", row["status"]),
            ("error", error.get("message")),
            ("warning", (row.get("warning") or {}).get("message")),
            ("pairs", row["pair_count"]),
            ("chunks", f"{row['chunks_done']} of {row['chunk_count']} done" if row["chunk_count"] else None),
            ("quality", _quality(row)),
            ("cost", _spent(row)),
            ("format", row["format"]),
            ("mode", row["mode"]),
            ("valid", _validity(row)),
            ("created", moment(row["created_at"])),
        ]
    )
    return Group(about, *(_pair(pair) for pair in pairs))


def generation_estimate_view(answer: Row) -> RenderableType:
    """What generation will take; nothing is made yet."""
    said = answer["estimate"]
    cost, prompt, completion = said["costUsd"], said["promptTokens"], said["completionTokens"]
    about = facts(
        [
            ("cost", "unknown" if cost is None else f"${cost['low']:.4f} to ${cost['high']:.4f}"),
            ("price", said["priceSource"]),
            ("chunks", answer["chunkCount"]),
            ("tokens asked", f"{prompt['low']:,} to {prompt['high']:,}"),
            ("tokens answered", f"{completion['low']:,} to {completion['high']:,}"),
        ]
    )
    return Group(about, *(Text(str(note), style="dim") for note in said["notes"]))


def _quality(row: Row) -> str | None:
    """The score of a generated dataset, and what it is made of."""
    factors = row.get("quality_factors")
    if not factors:
        return None
    told = ", ".join(f"{name} {value:.2f}" for name, value in factors.items())
    return f"{row['quality_score']:.2f} ({told})"


def _spent(row: Row) -> str | None:
    """What its answers cost; None: no model was asked."""
    if not row.get("prompt_tokens"):
        return None
    tokens = f"{row['prompt_tokens']:,} tokens asked, {row['completion_tokens']:,} answered"
    cap = f" of at most ${row['max_cost_usd']:.4f}" if row.get("max_cost_usd") is not None else ""
    return f"unknown: {tokens}" if row["cost_usd"] is None else f"${row['cost_usd']:.4f}{cap}: {tokens}"


def validation_view(report: Row) -> RenderableType:
    """The verdict, its figures, then each finding with what to do."""
    stats, errors, warnings = report["stats"], report["errors"], report["warnings"]
    quality = stats["avgQualityScore"]
    verdict = Text("Valid", style="bold green") if report["valid"] else Text("Not valid", style="bold red")
    verdict.append(f": {len(errors)} errors, {len(warnings)} warnings", style="default")
    figures = facts(
        [
            ("pairs", stats["totalPairs"]),
            ("unique questions", stats["uniqueQuestions"]),
            ("tokens a pair", f"{stats['avgTokensPerPair']:.1f}"),
            ("quality", None if quality is None else f"{quality:.2f}"),
            ("not looked at", stats["excludedPairs"] or None),
            ("languages", ", ".join(f"{code} {share:.0%}" for code, share in stats["languages"].items())),
            ("trained tokens", _trained(report["xray"])),
        ]
    )
    found = [*(("error", one) for one in errors), *(("warning", one) for one in warnings)]
    lines = [_finding(kind, one) for kind, one in found[:SHOWN_FINDINGS]]
    if len(found) > SHOWN_FINDINGS:
        lines.append(Text(f"... and {len(found) - SHOWN_FINDINGS} more; --json prints all", style="dim"))
    return Group(verdict, figures, *lines)


def _trained(xray: Row | None) -> str | None:
    if xray is None:
        return None
    return f"{xray['trainedTokens']:,} of {xray['tokens']:,} an epoch, by {xray['baseModel']}"


def _finding(kind: str, finding: Row) -> Text:
    where = f" pair {finding['ordinal']}" if finding.get("ordinal") is not None else ""
    line = Text.assemble(
        (f"{kind}{where}: ", "red" if kind == "error" else "yellow"), cell(finding["message"])
    )
    if finding.get("hint"):
        line.append_text(Text.assemble(" ", cell(finding["hint"])))
    return line


def _pair(pair: Row) -> RenderableType:
    question = Text.assemble(("Q ", "bold"), cell(pair["user_message"]))
    answer = Text.assemble(("A ", "bold"), cell(pair["assistant_message"]))
    return Padding(Group(question, answer), (1, 0, 0, 0))


def _validity(row: Row) -> str:
    validation = row.get("validation")
    if not validation:
        return "not checked"
    return "yes" if validation.get("valid") else "no"
