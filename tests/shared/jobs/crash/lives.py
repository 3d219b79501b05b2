"""The lives of a job that are cut off at every point, and what must have become of each."""

from __future__ import annotations

from dataclasses import dataclass

from shared.jobs.timing import Timing

# Long in the database's time, which jumps; a step never comes near its limit on a slow machine.
TIMING = Timing(lease=7, step=5, poll_shortest=20)
LATE_SECONDS = 1.0
GRACE_SECONDS = TIMING.grace(LATE_SECONDS)


@dataclass(frozen=True)
class Life:
    """One way through the states. Statuses are those of the job's row."""

    name: str
    provider: str
    end: str = "completed"  # when nothing is in its way
    other_ends: frozenset[str] = frozenset()  # after a death: a stop that comes late finds a run that is done
    cancel_in: frozenset[str] = frozenset()  # the user asks for a stop as soon as the row says one of these
    cancel_after_death: bool = False  # ... as soon as the first process has died
    delete_in: frozenset[str] = frozenset()  # the row is deleted as soon as it says one of these
    loses_answer: bool = False  # of the first create, which takes effect
    late_seconds: float = 0.0  # that run is seen, or its trainer starts, so much later
    most_runs: int = 1  # more than one where the provider breaks its promise
    lasts_seconds: float = 300.0  # ends when nothing is due for so long; the first sweep lies within it


_RUNNING = frozenset({"queued", "training"})
_COMPLETED, _CANCELLED = frozenset({"completed"}), frozenset({"cancelled"})
_TOO_LATE_SECONDS = GRACE_SECONDS + 4


def _lives(provider: str) -> tuple[Life, ...]:
    return (
        Life(f"{provider}", provider, lasts_seconds=86_400),  # to the last sweep
        Life(f"{provider}, cancelled", provider, "cancelled", _COMPLETED, cancel_in=_RUNNING),
        Life(
            f"{provider}, cancelled after a death", provider, other_ends=_CANCELLED, cancel_after_death=True
        ),
        Life(f"{provider}, answer lost", provider, loses_answer=True),
        Life(
            f"{provider}, answer lost, run seen too late",
            provider,
            loses_answer=True,
            late_seconds=_TOO_LATE_SECONDS,
            most_runs=2,
        ),
        Life(f"{provider}, deleted", provider, "deleted", delete_in=_RUNNING),
    )


LIVES = (*_lives("openai"), *_lives("claiming"))
BY_NAME = {life.name: life for life in LIVES}
