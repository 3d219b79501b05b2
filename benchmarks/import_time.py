"""Cold import of the functions server, against importing what a trainer needs, and a bare FastAPI."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

RUNS = 5
LIMIT_SECONDS = 1.5
_OURS = "import functions.registry, functions.entry"
_PEER = "import trl.trainer.sft_trainer"
_FLOOR = "import fastapi"


def seconds(statement: str) -> float:
    """Median wall time of a fresh interpreter that runs the statement."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", statement], check=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    heavy = "import sys; assert not {'torch', 'transformers', 'trl'} & set(sys.modules), 'a trainer library'"
    subprocess.run([sys.executable, "-c", f"{_OURS}; {heavy}"], check=True)
    ours, peer, floor = seconds(_OURS), seconds(_PEER), seconds(_FLOOR)
    print(f"functions {ours:.2f} s (at most {LIMIT_SECONDS}), with TRL {peer:.2f} s, FastAPI {floor:.2f} s")
    result = {
        "name": "import-time",
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "peer_name": "a server that imports its trainer",
        "limit": round(floor, 3),
        "limit_name": "FastAPI alone",
        "unit": "seconds",
        "ratio_to_peer": round(peer / ours, 2),
        "ratio_to_limit": round(floor / ours, 2),
        "n": RUNS,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
