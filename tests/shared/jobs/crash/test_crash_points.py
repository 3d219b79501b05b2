"""A job whose processes die at every point of its life ends as it must, with one run at the provider.

The full matrix of two deaths is `python -m tests.shared.jobs.crash.all_pairs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random

import pytest

from devstack.up import Stack
from tests.conftest import Figure
from tests.shared.jobs.crash.lane import Lane, open_lanes
from tests.shared.jobs.crash.lives import LIVES
from tests.shared.jobs.crash.matrix import Figures, run_cases, run_lives, run_singles

LANES = 3
PAIRS = 24
SEED = 1


@pytest.fixture(scope="module")
async def lanes(stack: Stack) -> AsyncIterator[list[Lane]]:
    async with open_lanes(stack, LANES) as opened:
        yield opened


@pytest.mark.timeout(600)
async def test_a_job_survives_deaths_at_every_point(lanes: list[Lane], figure: Figure) -> None:
    figures = Figures()
    singles = await run_lives(lanes, LIVES, figures)
    pairs = await run_singles(lanes, singles, figures)
    chosen = Random(SEED).sample(pairs, PAIRS)
    figures.add(await run_cases(lanes, chosen))
    figure(f"{figures.told()}, pairs {len(chosen)} of {len(pairs)} (seed {SEED})")
    assert figures.wrong == []
