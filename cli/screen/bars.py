"""Progress for people: a live bar on a terminal, an occasional line everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.backend.client import Row

INDENT = 3
LINE_EVERY_SECONDS = 2.0  # where there is no terminal


class Bar(Protocol):
    """Takes a row and shows how far it is."""

    def update(self, row: Row) -> None: ...


@contextmanager
def job_bar(console: Console) -> Iterator[Bar]:
    """The bar of a training job."""
    with _bar(console, _job_percent, _job_details) as bar:
        yield bar


@contextmanager
def dataset_bar(console: Console) -> Iterator[Bar]:
    """The bar of a dataset that is being generated."""
    with _bar(console, _dataset_percent, _dataset_details) as bar:
        yield bar


@contextmanager
def import_bar(console: Console) -> Iterator[Bar]:
    """The bar of files that are uploaded and then imported."""
    with _bar(console, _import_percent, _import_details) as bar:
        yield bar


@contextmanager
def file_bar(console: Console) -> Iterator[Bar]:
    """The bar of a file that is read."""
    with _bar(console, _file_percent, _file_details) as bar:
        yield bar


class _Shown:
    """Renders the latest row."""

    def __init__(self, percent: Callable[[Row], float], details: Callable[[Row], str]) -> None:
        self.percent, self.details = percent, details
        self.row: Row = {}

    def line(self) -> str:
        return f"{'':{INDENT}}{self.percent(self.row):3.0f} %  {self.details(self.row)}"

    def __rich__(self) -> RenderableType:
        percent = self.percent(self.row)
        top = Table.grid(padding=(0, 2, 0, 0), expand=True)
        top.add_column(ratio=1)
        top.add_column(justify="right", width=5, no_wrap=True)
        top.add_row(ProgressBar(total=100, completed=percent), f"{percent:.0f} %")
        return Padding(Group(top, Text(self.details(self.row), style="dim")), (0, 0, 0, INDENT))


class _LiveBar:
    def __init__(self, shown: _Shown, live: Live) -> None:
        self.shown, self.live = shown, live

    def update(self, row: Row) -> None:
        self.shown.row = row
        self.live.update(self.shown)


class _Lines:
    def __init__(self, shown: _Shown, console: Console) -> None:
        self.shown, self.console = shown, console
        self.last_at, self.last_state = 0.0, ""

    def update(self, row: Row) -> None:
        now, state = time.monotonic(), str(row.get("status"))
        self.shown.row = row
        if state != self.last_state or now - self.last_at >= LINE_EVERY_SECONDS:
            self.last_at, self.last_state = now, state
            self.console.print(Text(self.shown.line(), no_wrap=True, overflow="ellipsis"))


@contextmanager
def _bar(console: Console, percent: Callable[[Row], float], details: Callable[[Row], str]) -> Iterator[Bar]:
    shown = _Shown(percent, details)
    if not console.is_terminal:
        yield _Lines(shown, console)
        return
    with Live(shown, console=console, refresh_per_second=10) as live:
        yield _LiveBar(shown, live)


def _job_percent(row: Row) -> float:
    return float(row.get("progress_percent") or 0)


def _job_details(row: Row) -> str:
    if row.get("status") != "training" or row.get("step") is None:
        return str(row.get("current_step") or "Waiting")
    parts = [
        f"step {row['step']}/{row.get('total_steps') or '?'}",
        _number("epoch", row.get("epoch"), ".1f")
        + (f"/{row['total_epochs']}" if row.get("total_epochs") else ""),
        _number("loss", row.get("training_loss"), ".4f"),
        _number("lr", row.get("learning_rate"), ".1e"),
        _number("", row.get("tokens_per_second"), ",.0f") + " tok/s" if row.get("tokens_per_second") else "",
        _remaining(row.get("eta_at")),
    ]
    return "  ".join(part for part in parts if part)


def _number(name: str, value: object, spec: str) -> str:
    return f"{name} {float(str(value)):{spec}}".strip() if value is not None else ""


def _remaining(eta_at: object) -> str:
    if not eta_at:
        return ""
    seconds = max(0, round((datetime.fromisoformat(str(eta_at)) - datetime.now(UTC)).total_seconds()))
    return f"{seconds // 60}:{seconds % 60:02d} left"


def _dataset_percent(row: Row) -> float:
    if row.get("status") == "ready":
        return 100.0
    total = int(row.get("chunk_count") or 0)
    done = int(row.get("chunks_done") or 0) + int(row.get("chunks_failed") or 0)
    return 100.0 * done / total if total else 0.0


def _dataset_details(row: Row) -> str:
    total, done = row.get("chunk_count") or 0, row.get("chunks_done") or 0
    if not total:
        return "Waiting to start"
    cost = f", ${row['cost_usd']:.4f} so far" if row.get("cost_usd") else ""
    waits = f". {row['warning']['message']}" if row.get("warning") else ""
    return f"{row.get('pair_count') or 0} pairs from {done} of {total} chunks{cost}{waits}"


def _file_percent(row: Row) -> float:
    return 100.0 * int(row.get("bytes_done") or 0) / max(int(row.get("byte_count") or 0), 1)


def _file_details(row: Row) -> str:
    if not row:
        return "Reading"
    return f"{row['name']}, {row['bytes_done'] / 2**20:,.0f} of {row['byte_count'] / 2**20:,.0f} MiB"


def _import_percent(row: Row) -> float:
    if row.get("status") == "ready":
        return 100.0
    return 100.0 * int(row.get("bytes_done") or 0) / max(int(row.get("byte_count") or 0), 1)


def _import_details(row: Row) -> str:
    if row.get("status") == "uploading":
        return f"Uploading, {row['bytes_done'] / 2**20:,.1f} of {row['byte_count'] / 2**20:,.1f} MiB"
    files, done = int(row.get("file_count") or 0), int(row.get("files_done") or 0)
    if not row.get("rows_done"):
        return "Waiting to start"
    pairs = f"{row.get('pair_count') or 0:,} pairs from {row['rows_done']:,} rows"
    if files and done == files and row.get("status") == "generating":
        return f"{pairs}  validating"
    return pairs + (f"  file {min(done + 1, files)} of {files}" if files > 1 else "")
