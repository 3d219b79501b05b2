"""`fineflow datasets split DATASET`: a dataset of the stack in parts, or what its parts give away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from cli.backend.client import open_client
from cli.backend.lookup import find, project_id
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, cell, facts, notes, short, table

SHOWN = 20


async def split_dataset(
    reference: str,
    *,
    shares: tuple[float, float, float] | None,
    seed: int | None,
    group_by: str | None,
    restart: bool,
    check: bool,
    project: str | None,
) -> Result:
    """What split-dataset answers; with `check`, exit code 1 when the parts give something away."""
    _refuse_file(Path(reference))
    asked: dict[str, Any] = {"seed": seed, "groupBy": group_by, "restart": restart, "check": check}
    if shares:
        asked |= dict(zip(("trainFraction", "validationFraction", "testFraction"), shares, strict=True))
    async with open_client() as client:
        target = await project_id(client, project)
        row = await find(client, "training_datasets", target, reference, thing="dataset")
        with notes().status("Comparing the pairs"):
            answer = await client.invoke("split-dataset", {"datasetId": row["id"], **asked})
    if check:
        leaks = answer["leaks"]
        return Result(answer, _leaks_view(leaks), ExitCode.FAILED if leaks else ExitCode.OK)
    for remark in answer["warnings"]:
        notes().print(cell(f"{remark['message']} {remark['hint']}"))
    return Result(answer, _view(answer))


def _refuse_file(path: Path) -> None:
    if path.is_file():
        hint = "Say where with --output DIR; a dataset of this name can be given by its id."
        raise CliError(f"{path} is a file.", hint=hint, exit_code=ExitCode.USAGE)


def _view(answer: dict[str, Any]) -> RenderableType:
    lines = [
        (name, f"{answer['counts'][name]} pairs in {answer['groupCounts'][name]} groups, {share:.1%}")
        for name, share in answer["fractions"].items()
    ]
    moved = f"{answer['changedPairs']} pairs were put somewhere"
    return Group(
        facts([*lines, ("seed", answer["seed"]), ("content hash", answer["contentHash"])]), cell(moved)
    )


def _leaks_view(leaks: list[dict[str, Any]]) -> RenderableType:
    return table(
        ("kind", "pair", "in", "and pair", "in", "alike"),
        (
            (
                leak["kind"],
                short(leak["firstPairId"]),
                leak["firstSplit"],
                short(leak["secondPairId"]),
                leak["secondSplit"],
                f"{leak['similarity']:.0%}",
            )
            for leak in leaks[:SHOWN]
        ),
        empty="No leaks.",
    )
