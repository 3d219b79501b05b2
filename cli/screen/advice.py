"""How advice looks on a terminal."""

from __future__ import annotations

import shlex

from rich.console import Group, RenderableType
from rich.text import Text

from cli.backend.client import Row
from cli.screen.jobs import estimate_view
from cli.screen.output import cell, table


def advice_view(answer: Row, dataset: str, saved_as: str | None) -> RenderableType:
    """What was chosen and why, what was not, the estimate, and what to type to start it."""
    advice = answer["advice"]
    chosen = ((item["name"], item["value"], item["reason"], item["source"]) for item in advice["choices"])
    parts: list[RenderableType] = [
        table(("choice", "value", "reason", "source"), chosen, empty="Nothing was chosen."),
        Text(),
        estimate_view(answer),
    ]
    if advice["rejected"]:
        parts += [Text(), Text("Not chosen", style="bold")]
        parts += [cell(f"{item['option']}: {item['reason']}") for item in advice["rejected"]]
    if not advice["meetsLimits"]:
        parts += [Text(), Text("Nothing keeps to the budget and the deadline.", style="yellow")]
    parts += [
        Text(),
        Text("Nothing was started. To start it:"),
        Text(f"  {_to_type(answer, dataset, saved_as)}"),
    ]
    if advice["nextStep"]:
        parts.append(cell(advice["nextStep"]))
    return Group(*parts)


def _to_type(answer: Row, dataset: str, saved_as: str | None) -> str:
    words = ["fineflow", "train", dataset]
    if saved_as is not None:
        words += ["--template", saved_as]
    else:
        words += ["--base-model", answer["baseModel"], "--method", answer["method"]]
        for name, value in answer["advice"]["template"]["training_config"].items():
            words += ["--set", f"{name}={value}"]
    words += ["--provider", answer["provider"]]
    if answer["gpu"]:
        words += ["--gpu", answer["gpu"]]
    return shlex.join(words)
