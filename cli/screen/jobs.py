"""How jobs and estimates look on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from cli.backend.client import Row
from cli.exits import ExitCode
from cli.screen.output import Result, cell, dollars, facts, moment, short, table


def jobs_table(jobs: Sequence[Row]) -> RenderableType:
    """One line a job."""
    return table(
        ("id", "model", "base", "method", "provider", "status", "%", "loss", "created"),
        (
            (
                short(row["id"]),
                row["model_name"],
                row["base_model"],
                row["method"],
                row["provider"],
                row["status"],
                f"{float(row['progress_percent'] or 0):.0f}",
                loss(row["training_loss"]),
                moment(row["created_at"]),
            )
            for row in jobs
        ),
        empty="No jobs yet. Start one with `fineflow train DATASET`.",
    )


def job_facts(row: Row, next_step: str | None = None, events: Sequence[Row] = ()) -> RenderableType:
    """What is known of a job, then its events."""
    error = row.get("error") or {}
    about = facts(
        [
            ("job", row["id"]),
            ("status", row["status"]),
            ("error", error.get("message")),
            ("progress", row.get("current_step")),
            ("base model", row.get("base_model")),
            ("method", row.get("method")),
            ("provider", row.get("provider")),
            ("steps", f"{row['step']} of {row['total_steps']}" if row.get("total_steps") else None),
            ("loss", loss(row["training_loss"]) if row.get("training_loss") is not None else None),
            ("tokens", row.get("trained_tokens")),
            ("gpu", _gpus(row.get("gpu"), row.get("gpu_count", 1))),
            ("cost", _cost_so_far(row)),
            ("spend cap", dollars(row["spend_cap_usd"]) if row.get("spend_cap_usd") else None),
            ("model", row.get("model_id")),
        ]
    )
    return Group(about, *map(_event, events), *([Text(next_step)] if next_step else []))


def job_result(row: Row) -> Result:
    """A job that has ended: exit code 1 unless it completed."""
    completed = row["status"] == "completed"
    hint = "Deploy it with `fineflow deploy MODEL --as NAME`." if completed else None
    return Result(row, job_facts(row, hint), ExitCode.OK if completed else ExitCode.FAILED)


def estimate_view(answer: Row) -> RenderableType:
    """The bill before the run."""
    about = facts(
        [
            ("cost", _cost_range(answer)),
            ("price", _price(answer)),
            ("budget", _budget(answer["budget"])),
            ("base model ends", answer["shutdownDate"]),
            ("no new jobs from", answer["closesDate"]),
            ("duration", _range(answer["durationSeconds"], _seconds)),
            ("memory", _range(answer["memoryBytes"], _bytes)),
            ("of which", _parts(answer.get("memoryParts"))),
            ("gpu", _gpus(answer["gpu"], answer["gpuCount"])),
            ("examples", answer["exampleCount"]),
            ("tokens", f"{answer['trainingTokens']:,} an epoch, {answer['billableTokens']:,} in all"),
            ("base model", answer["baseModel"]),
            ("method", answer["method"]),
            ("provider", answer["provider"]),
        ]
    )
    return Group(about, *(Text(str(note), style="dim") for note in answer["notes"]))


def _gpus(name: str | None, count: int) -> str | None:
    return f"{count} x {name or 'GPU'}" if count > 1 else name


def _cost_range(answer: Row) -> str:
    bounds = [answer["costRangeUsd"][end] for end in ("low", "high")]
    if None in bounds or bounds[0] == bounds[1]:
        return dollars(answer["costUsd"])
    return f"{dollars(bounds[0])} to {dollars(bounds[1])}"


def _price(answer: Row) -> str:
    rate = ""
    if answer["usdPerMillionTokens"] is not None:
        rate = f"{dollars(answer['usdPerMillionTokens'])} a million trained tokens: "
    elif answer["usdPerSecond"] is not None:
        rate = f"{dollars(answer['usdPerSecond'] * 3600)} an hour: "
    return f"{rate}{answer['priceSource']} ({answer['priceDate']})"


def _budget(budget: Row) -> str:
    spent = f"{dollars(budget['spentUsd'])} spent, {dollars(budget['reservedUsd'])} held back"
    projected = f"{dollars(budget['projectedMonthUsd'])} projected with this run"
    if budget["monthUsd"] is None:
        return f"none set; this month {spent}, {projected}"
    verdict = {True: "over it with this run", False: "within it", None: "cost unknown"}[budget["wouldExceed"]]
    return f"{dollars(budget['monthUsd'])} a month ({budget['enforcement']}): {spent}, {projected}; {verdict}"


def _cost_so_far(row: Row) -> str | None:
    cost, estimated = row.get("cost_usd"), row.get("estimated_cost_usd")
    if cost is None:
        return None
    return f"{dollars(cost)}  (estimated {dollars(estimated)})" if estimated else dollars(cost)


def _event(event: Row) -> Text:
    state = (event.get("data") or {}).get("to") or event["type"]
    return Text.assemble((f"{str(event['created_at'])[11:19]}  {state:<11}", "dim"), cell(event["message"]))


def loss(value: object) -> str | None:
    return None if value is None else f"{float(str(value)):.4f}"


def _range(low_high: Row, shown: Callable[[float], str]) -> str:
    low, high = low_high.get("low"), low_high.get("high")
    known = [shown(value) for value in (low, high) if value is not None]
    return " to ".join(dict.fromkeys(known)) or "unknown"


def _parts(parts: Row | None) -> str | None:
    """The largest first; what is nothing beside the others is left out."""
    if not parts:
        return None
    least = sum(parts.values()) / 100
    shown = sorted(((size, name) for name, size in parts.items() if size >= least), reverse=True)
    return ", ".join(f"{name} {_bytes(size)}" for size, name in shown)


def _seconds(value: float) -> str:
    return (
        f"{value:.0f} s"
        if value < 120
        else f"{value / 60:.0f} min"
        if value < 7200
        else f"{value / 3600:.1f} h"
    )


def _bytes(value: float) -> str:
    return f"{value / 1024**2:.0f} MiB" if value < 1024**3 else f"{value / 1024**3:.1f} GiB"
