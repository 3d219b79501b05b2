"""`python -m tests.shared.jobs.crash.all_pairs [life ...]`: two deaths, at all pairs of points of each life.

Starts a stack of its own. The last line is JSON; the exit code is 1 when anything was wrong.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from devstack.ports import free_port
from devstack.up import Stack, tell
from tests.shared.jobs.crash.lane import open_lanes
from tests.shared.jobs.crash.lives import BY_NAME, LIVES
from tests.shared.jobs.crash.matrix import Figures, run_cases, run_lives, run_singles

_LANES = 4


async def main(names: list[str]) -> int:
    lives = [BY_NAME[name] for name in names] or list(LIVES)
    directory = Path(tempfile.mkdtemp(prefix="fineflow-crash-"))
    began = time.monotonic()
    figures, pairs_run = Figures(), 0
    try:
        async with (
            Stack(directory, free_port(), children={"postgres", "front_door"}) as stack,
            open_lanes(stack, _LANES) as lanes,
        ):
            for life in lives:
                pairs = await run_singles(lanes, await run_lives(lanes, [life], figures), figures)
                figures.add(await run_cases(lanes, pairs))
                pairs_run += len(pairs)
                tell(f"{life.name}: {len(pairs)} pairs; wrong so far {len(figures.wrong)}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for what in figures.wrong:
        tell(what)
    answer = {"points": sum(figures.points.values()), "pairs": pairs_run, "kills": figures.kills}
    answer |= {"runs_created": figures.runs, "second_runs_stopped": figures.second_runs}
    answer |= {"wrong": len(figures.wrong), "seconds": round(time.monotonic() - began)}
    tell(json.dumps(answer))
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
