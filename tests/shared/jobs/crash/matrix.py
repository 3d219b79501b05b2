"""Every life cut off at every point, and what was wrong afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.shared.jobs.crash.driver import Order
from tests.shared.jobs.crash.gate import KILLED
from tests.shared.jobs.crash.lane import Lane
from tests.shared.jobs.crash.lives import Life
from tests.shared.jobs.crash.verdict import runs_of, wrong_with

_CASE_SECONDS = 60


@dataclass(frozen=True)
class Case:
    """The first process dies after its effect number deaths[0], the second after its deaths[1], ..."""

    life: Life
    deaths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a case ended. `effects` are those of the last process, which was left alive."""

    case: Case
    kills: int
    effects: list[str]
    runs: int
    second_runs: int  # made beside the one that the job has; each was stopped, or `wrong` says so
    wrong: list[str]


@dataclass
class Figures:
    """What was done and found, over many cases."""

    points: dict[str, int] = field(default_factory=dict)  # by life: after how many effects it can be cut
    kills: int = 0
    runs: int = 0
    second_runs: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            case = outcome.case
            if not case.deaths:
                self.points[case.life.name] = len(outcome.effects)
            self.kills += outcome.kills
            self.runs += outcome.runs
            self.second_runs += outcome.second_runs
            self.wrong += [f"{case.life.name} {case.deaths}: {what}" for what in outcome.wrong]

    def told(self) -> str:
        """One line with the counts."""
        return (
            f"crash points K={sum(self.points.values())} in {len(self.points)} lives "
            f"({', '.join(f'{life}: {count}' for life, count in self.points.items())}), kills {self.kills}, "
            f"runs created {self.runs}, of them second ones that were stopped {self.second_runs}, "
            f"wrong {len(self.wrong)}"
        )


async def run_case(lane: Lane, case: Case) -> Outcome:
    """The job was moved by processes that died as the case says, and by a last one to its end."""
    job_id = await asyncio.to_thread(lane.begin, case.life)
    kills = 0
    for incarnation, die_after in enumerate((*case.deaths, None)):
        order = Order(
            place=lane.place,
            life=case.life.name,
            job_id=job_id,
            incarnation=incarnation,
            die_after=die_after,
        )
        ended = await asyncio.wait_for(lane.zygote.run(order), _CASE_SECONDS)
        if ended.code != KILLED:
            break
        kills += 1
    wrong = [] if ended.code == 0 else [f"process {incarnation} ended with {ended.code}"]
    wrong += await asyncio.to_thread(wrong_with, lane, case.life, job_id)
    runs = runs_of(lane, case.life)
    return Outcome(case, kills, ended.effects, len(runs), max(0, len(runs) - 1), wrong)


async def run_lives(lanes: list[Lane], lives: Iterable[Life], figures: Figures) -> list[Case]:
    """Each life undisturbed; the cases with one death, one for each of its points."""
    outcomes = await run_cases(lanes, [Case(life) for life in lives])
    figures.add(outcomes)
    return [
        Case(outcome.case.life, (point,))
        for outcome in outcomes
        for point in range(1, len(outcome.effects) + 1)
    ]


async def run_singles(lanes: list[Lane], singles: Iterable[Case], figures: Figures) -> list[Case]:
    """One death each; the cases with a second one, at each point of the recovery from the first."""
    outcomes = await run_cases(lanes, singles)
    figures.add(outcomes)
    return [
        Case(outcome.case.life, (*outcome.case.deaths, point))
        for outcome in outcomes
        for point in range(1, len(outcome.effects) + 1)
    ]


async def run_cases(lanes: list[Lane], cases: Iterable[Case]) -> list[Outcome]:
    """All of them, one a lane at a time, in the order given."""
    waiting = list(enumerate(cases))[::-1]
    outcomes: dict[int, Outcome] = {}

    async def work(lane: Lane) -> None:
        while waiting:
            number, case = waiting.pop()
            outcomes[number] = await run_case(lane, case)

    async with asyncio.TaskGroup() as tasks:
        for lane in lanes:
            tasks.create_task(work(lane))
    return [outcomes[number] for number in sorted(outcomes)]
