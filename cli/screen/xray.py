"""How the tokens of a training row look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.backend.client import Row
from cli.screen.output import cell, facts
from shared.datasets.xray import RowXray, State, Token, Totals

SHOWN_TOKENS = 400  # of a row: the first and the last ones
SHOWN_REASONS = 20
XRAY_RULES = ("row_refused", "trains_nothing", "truncated")  # of validate-dataset
_STYLES: dict[State, str] = {"trained": "green", "masked": "dim", "left_out": "red"}
_SPECIAL = " bold underline"


def xray_view(
    rows: Sequence[RowXray],
    idle: Sequence[RowXray],
    totals: Totals,
    *,
    limit: int,
    colours: bool,
    place: str = "line",
) -> RenderableType:
    """Rows in full, then those that teach nothing, then the totals and the verdict.

    place: what the number of a row is called.
    rows: shown with their tokens; idle: further rows that have a reason; colours: False puts brackets
    around what is trained, for where no colour is seen.
    """
    refusal = totals.refusal
    verdict = Text("Can be trained", style="bold green") if refusal is None else Text(refusal, "bold red")
    return Group(
        *([_legend(colours)] if rows else []),
        *(_row(row, colours, place) for row in rows),
        *(_reason(row, place) for row in idle[:SHOWN_REASONS]),
        *_more(totals, [*idle[:SHOWN_REASONS], *(row for row in rows if row.reason)]),
        _totals(totals, limit),
        verdict,
    )


def dataset_xray_view(report: Row, *, colours: bool) -> RenderableType:
    """The same of what validate-dataset answered for a base model."""
    seen = report["xray"]
    shown = [
        RowXray(
            row["ordinal"],
            row["trainedTokens"],
            row["maskedTokens"],
            row["leftOutTokens"],
            row["reason"],
            row["isRefused"],
            tuple(row["remarks"]),
            tokens=tuple(
                Token(token["id"], token["text"], token["state"], token["isSpecial"])
                for token in row["tokens"]
            ),
        )
        for row in seen["rows"]
    ]
    told = {row.line for row in shown}
    idle = [
        RowXray(found["ordinal"], reason=found["message"], is_refused=found["rule"] == "row_refused")
        for found in (*report["errors"], *report["warnings"])
        if found["rule"] in XRAY_RULES and found["ordinal"] is not None and found["ordinal"] not in told
    ]
    totals = Totals(
        rows=seen["rowCount"],
        used_rows=seen["usedRows"],
        rows_that_teach=seen["rowsThatTeach"],
        left_out_rows=seen["leftOutRows"],
        refused_rows=seen["refusedRows"],
        trained_tokens=seen["trainedTokens"],
        masked_tokens=seen["maskedTokens"],
        left_out_tokens=seen["leftOutTokens"],
        longest_row_tokens=seen["longestRowTokens"],
    )
    return xray_view(shown, idle, totals, limit=seen["maxLengthTokens"], colours=colours, place="pair")


def _legend(colours: bool) -> Text:
    if not colours:
        return Text("[[trained]] only read\n")
    return Text.assemble(
        ("trained", "green"),
        "  ",
        ("only read", "dim"),
        "  ",
        ("left out", "red"),
        "  ",
        ("special", _SPECIAL.strip()),
        "\n",
    )


def _row(row: RowXray, colours: bool, place: str) -> RenderableType:
    counts = f"{row.trained_tokens:,} trained, {row.masked_tokens:,} only read"
    if not row.is_used:
        counts = f"{row.left_out_tokens:,} left out" if row.left_out_tokens else "refused"
    head = Text.assemble((f"{place} {row.line}", "bold"), f"  {counts}")
    notes = [cell(note) for note in (row.reason, *row.remarks) if note]
    for note in notes:
        note.stylize("yellow")
    return Group(head, *(Padding(part, (0, 0, 0, 3)) for part in (_painted(row.tokens, colours), *notes)), "")


def _painted(tokens: Sequence[Token], colours: bool) -> Text:
    """The row as the model sees it, token by token; the middle of a long one is left away."""
    more = len(tokens) - SHOWN_TOKENS
    if more <= 0:
        return _joined(tokens, colours)
    half = SHOWN_TOKENS // 2
    between = Text(f"\n... {more:,} tokens more ...\n", style="italic")
    return _joined(tokens[:half], colours) + between + _joined(tokens[-half:], colours)


def _joined(tokens: Sequence[Token], colours: bool) -> Text:
    painted = Text()
    for state, run in groupby(tokens, key=lambda token: token.state):
        bracketed = state == "trained" and not colours
        painted.append("[[" if bracketed else "")
        for is_special, alike in groupby(run, key=lambda token: token.is_special):
            text = cell("".join(token.text for token in alike)).plain
            painted.append(text, style=_STYLES[state] + (_SPECIAL if is_special else ""))
        painted.append("]]" if bracketed else "")
    return painted


def _reason(row: RowXray, place: str) -> Text:
    kind, style = ("refused", "red") if row.is_refused else ("trains nothing", "yellow")
    return Text.assemble((f"{kind}, {place} {row.line}: ", style), cell(row.reason))


def _more(totals: Totals, told: Sequence[RowXray]) -> list[Text]:
    more = totals.rows - totals.rows_that_teach - len(told)
    return [Text(f"... and {more:,} more rows that train nothing", style="dim")] if more > 0 else []


def _totals(totals: Totals, limit: int) -> RenderableType:
    share = f" ({totals.trained_tokens / totals.tokens:.0%})" if totals.tokens else ""
    return facts(
        [
            ("rows", f"{totals.rows:,}"),
            ("used", f"{totals.used_rows:,}"),
            ("left out", f"{totals.left_out_rows:,}" if totals.left_out_rows else None),
            ("refused", f"{totals.refused_rows:,}" if totals.refused_rows else None),
            ("tokens an epoch", f"{totals.tokens:,}"),
            ("trained", f"{totals.trained_tokens:,}{share}"),
            ("only read", f"{totals.masked_tokens:,}"),
            ("left out tokens", f"{totals.left_out_tokens:,}" if totals.left_out_tokens else None),
            ("longest row", f"{totals.longest_row_tokens:,} of {limit:,}"),
        ]
    )
