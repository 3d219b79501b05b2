"""The real job core through ten thousand disturbed lives. A seed that goes wrong is printed and replays."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.conftest import Figure
from tests.shared.jobs.simulation.faults import Rates
from tests.shared.jobs.simulation.world import Outcome, Plan, live, live_all

SEEDS = 10_000
_CHUNK = 250


@pytest.mark.timeout(600)
def test_ten_thousand_seeds(figure: Figure) -> None:
    plans = [Plan(seed=seed) for seed in range(SEEDS)]
    chunks = [plans[first : first + _CHUNK] for first in range(0, SEEDS, _CHUNK)]
    together = Outcome()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for outcome in pool.map(live_all, chunks):
            together.add(outcome)
    figure(
        f"{SEEDS} seeds, {together.rows} jobs, {sum(together.faults.values())} faults:"
        f" lost {len(together.lost)}, duplicates {len(together.duplicates)},"
        f" second runs {len(together.second_runs)}, wrong {len(together.wrong_terminal)},"
        f" stuck {len(together.stuck)}"
    )
    assert together.is_good, _replay(together)
    assert set(together.ends) == {"completed", "failed", "cancelled"}
    assert all(together.faults[name] for name in vars(Rates()))


def test_a_thousand_seeds_with_thrice_the_faults() -> None:
    disturbed = Rates().times(3)
    outcome = live_all(Plan(seed=seed, rates=disturbed) for seed in range(1000))
    assert outcome.is_good, _replay(outcome)


def test_one_seed_gives_one_history() -> None:
    plan = Plan(seed=7, rows=5, rates=Rates().times(2))
    assert live(plan) == live(plan)


def test_many_jobs_of_one_world_end_well() -> None:
    outcome = live_all([Plan(seed=1, rows=150, rates=Rates().times(3))])
    assert outcome.is_good, _replay(outcome)


@pytest.mark.parametrize(
    "promise",
    [
        pytest.param({"real_late_seconds": 1500.0}, id="the vendor is later than the grace"),
        pytest.param({"late_seconds": -119.0}, id="there is no grace"),
    ],
)
def test_a_broken_promise_shows_and_the_sweeper_stops_what_it_can(promise: dict[str, float]) -> None:
    disturbed = Rates(timeout_executed=0.5)
    outcome = live_all(Plan(seed=seed, rates=disturbed, **promise) for seed in range(300))
    assert outcome.second_runs, "the simulation must be able to see a second run"
    assert not outcome.stuck
    assert not outcome.wrong_terminal
    assert outcome.stopped_runs


def _replay(outcome: Outcome) -> str:
    wrong = {name: getattr(outcome, name) for name in ("lost", "duplicates", "second_runs", "stuck")}
    wrong["wrong_terminal"] = outcome.wrong_terminal
    lines = [f"{name}: {items[:5]}" for name, items in wrong.items() if items]
    return "\n".join(
        ["replay a seed with `python -m tests.shared.jobs.simulation.soak --rows 1 --seed SEED`", *lines]
    )
