"""`python -m tests.shared.jobs.chaos.run --jobs 1000 --seed 1`: the last line is JSON; exit code 1 when a
job was lost, doubled, stuck or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path

from devstack.up import tell
from tests.shared.jobs.chaos.storm import Storm, weather


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs-per-second", type=float, default=4)
    parser.add_argument("--keep", action="store_true", help="keep the logs, and say where they are")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="fineflow-chaos-"))
    storm = Storm(asked.jobs, asked.seed, jobs_per_second=asked.jobs_per_second)
    try:
        figures, found = asyncio.run(weather(storm, directory))
    finally:
        if asked.keep:
            tell(f"logs: {directory / 'logs'}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    for name in ("lost", "duplicates", "wrong_terminal", "stuck"):
        for job in getattr(found, name)[:20]:
            tell(f"{name}: {job}")
    tell(json.dumps(figures))
    return 0 if found.is_good() else 1


if __name__ == "__main__":
    sys.exit(main())
