"""`make soak ROWS=100000 SEED=1`: the simulation at length, on all cores; its last line is JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.shared.jobs.simulation.faults import Rates
from tests.shared.jobs.simulation.world import Outcome, Plan, live_all

# About eleven faults a job.
_RATES = Rates().times(2)
_CHUNK_ROWS = 500


def chunks(rows: int, seed: int) -> Iterator[list[Plan]]:
    """Worlds of one job each, in groups; the n-th world has the seed `seed + n`."""
    for first in range(0, rows, _CHUNK_ROWS):
        last = min(first + _CHUNK_ROWS, rows)
        yield [Plan(seed=seed + number, rates=_RATES) for number in range(first, last)]


def main() -> int:
    """Exit code 0 when nothing was lost, doubled, wrong or stuck."""
    parser = argparse.ArgumentParser(description="Runs the job core through disturbed lives.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    together, started = Outcome(), time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for outcome in pool.map(live_all, chunks(asked.rows, asked.seed)):
            together.add(outcome)
            _show(together, asked.rows, started)
    print(file=sys.stderr)
    for name in ("lost", "duplicates", "second_runs", "wrong_terminal", "stuck"):
        for wrong in getattr(together, name)[:20]:
            print(f"{name}: {wrong}  (replay: --rows 1 --seed {wrong.partition(':')[0]})")
    print(json.dumps(_figures(together, time.monotonic() - started)))
    return 0 if together.is_good else 1


def _show(outcome: Outcome, rows: int, started: float) -> None:
    seconds = time.monotonic() - started
    left = seconds / outcome.rows * (rows - outcome.rows)
    faults = sum(outcome.faults.values())
    line = f"{outcome.rows:,} of {rows:,} jobs, {faults:,} faults, about {left:.0f} s left"
    print(f"\r{line:<70}", end="", file=sys.stderr, flush=True)


def _figures(outcome: Outcome, seconds: float) -> dict[str, object]:
    waits = sorted(outcome.convergence_seconds) or [0.0]
    return {
        "rows": outcome.rows,
        "faults": sum(outcome.faults.values()),
        "lost": len(outcome.lost),
        "duplicates": len(outcome.duplicates),
        "wrong_terminal": len(outcome.wrong_terminal),
        "stuck": len(outcome.stuck),
        "convergence_p50_s": round(waits[len(waits) // 2], 1),
        "convergence_p99_s": round(waits[int(len(waits) * 0.99)], 1),
        "convergence_max_s": round(waits[-1], 1),
        "second_runs": len(outcome.second_runs),
        "stopped_runs": outcome.stopped_runs,
        "kills": outcome.faults["kill"],
        "faults_by_kind": dict(sorted(outcome.faults.items())),
        "ends": {str(name): count for name, count in sorted(outcome.ends.items())},
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
