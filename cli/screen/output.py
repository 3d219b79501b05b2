"""What a command prints: one result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cli.exits import CliError, ExitCode

WIDTH_WITHOUT_TERMINAL = 110  # characters


@dataclass(frozen=True)
class Result:
    """The outcome of a command: `data` for `--json`, `view` for people. A view of None prints nothing."""

    data: Any
    view: RenderableType | None = None
    exit_code: ExitCode = ExitCode.OK


def console(stream: IO[str]) -> Console:
    """A console as wide as the terminal; of a fixed width where there is none, so that logs read well."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, highlight=False)


def notes() -> Console:
    """Where progress and remarks go, so that stdout holds the result alone."""
    return console(sys.stderr)


def show(result: Result, *, as_json: bool) -> None:
    """The result is on stdout: as one JSON document, or as its view."""
    if as_json:
        print(_json(result.data))
    elif isinstance(result.view, str):
        print(result.view)  # as it is: no wrapping, no markup
    elif result.view is not None:
        console(sys.stdout).print(result.view)


def show_error(error: CliError, *, as_json: bool) -> None:
    """The message, its details and the hint are on stderr, or as JSON on stdout."""
    if as_json:
        print(_json(error.body()))
        return
    stderr = notes()
    stderr.print(Text.assemble(("Error: ", "bold red"), error.message))
    for line in _detail_lines(error.details):
        stderr.print(Text(f"  {line}", style="dim"))
    if error.hint:
        stderr.print(Text(error.hint))


def _detail_lines(details: Any) -> Iterable[str]:
    if isinstance(details, str):
        return [details]
    if isinstance(details, dict):
        # Whole objects are for --json.
        plain = ((name, value) for name, value in details.items() if not isinstance(value, dict))
        return [f"{name}: {value}" for name, value in plain if value not in (None, [])]
    if isinstance(details, list):
        return [_detail_line(item) for item in details]
    return []


def _detail_line(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = item.get("field") or ".".join(str(part) for part in item.get("loc", ()))
    what = item.get("message") or item.get("msg") or item
    return f"{where}: {what}" if where else str(what)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> RenderableType:
    """A plain table; the sentence `empty` when there is no row."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(cell(value) for value in row))
    return grid if grid.row_count else Text(empty)


def facts(pairs: Iterable[tuple[str, object]]) -> RenderableType:
    """Names on the left, values on the right; a value of None is left out."""
    grid = Table.grid(padding=(0, 3, 0, 0))
    for name, value in pairs:
        if value is not None:
            grid.add_row(Text(name, style="dim"), cell(value))
    return grid


def cell(value: object) -> Text:
    """A value as text, safe for the terminal: nothing in it is read as markup or as a control code."""
    shown = "-" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else " " for c in shown))


def short(identifier: object) -> str:
    """The first eight characters of an id: enough to name it on the command line."""
    return str(identifier)[:8]


def moment(timestamp: object) -> str:
    """`2026-11-20 22:10` from an ISO timestamp, in the database's zone; '-' for None."""
    return str(timestamp)[:16].replace("T", " ") if timestamp else "-"


def dollars(amount_usd: object) -> str:
    """`$0.00`, with four digits where less than a dollar would round away; 'unknown' for None."""
    if amount_usd is None:
        return "unknown"
    value = float(str(amount_usd))
    return f"${value:.2f}" if value == 0 or value >= 1 else f"${value:.4f}"


def _json(document: Any) -> str:
    """Indented for a reader at a terminal, one line for a program."""
    indent = 2 if sys.stdout.isatty() else None
    return json.dumps(document, ensure_ascii=False, default=str, indent=indent)
