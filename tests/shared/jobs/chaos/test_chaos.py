"""Nothing is lost, doubled or stuck while functions are killed and Postgres is restarted.

The full size is `python -m tests.shared.jobs.chaos.run --jobs 1000 --seed 1`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.conftest import Figure
from tests.shared.jobs.chaos.storm import Storm, weather

JOBS = 100
SEED = 1


@pytest.mark.timeout(600)
async def test_jobs_survive_kills_and_restarts(figure: Figure) -> None:
    directory = Path(tempfile.mkdtemp(prefix="fineflow-chaos-"))
    try:
        figures, found = await weather(Storm(JOBS, SEED, storm_seconds=240), directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    figure(f"chaos: {json.dumps(figures)}")
    assert found.is_good(), f"seed {SEED}: {found}"
    assert figures["functions_deaths"] == 0  # but those that were killed
    assert figures["kills"] > 0
    assert figures["restarts"] > 0
