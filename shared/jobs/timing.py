"""How long things may take and how long to leave them alone. All in seconds, all by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from shared.jobs.model import Claim
from shared.jobs.state import JobStatus


@dataclass(frozen=True)
class Timing:
    """Limits and pauses of the job core."""

    lease: float = 150  # longer than a step may take, so a living function never loses its job
    step: float = 120  # upload and create included
    poll_shortest: float = 5
    poll_longest: float = 60
    backoff_longest: float = 300
    queue: float = 86_400  # validating and queued: a day is longer than any vendor's queue
    never_started: float = 7 * 86_400  # pending: for want of a key, or of a provider that answers
    cancel: float = 3600  # until a stop that the provider never confirms is given up
    lost_after: float = 900  # of 404s without end, and at least lost_polls of them
    lost_polls: int = 5
    without_key: float = 300  # setting a key makes its jobs due at once

    def grace(self, late_seconds: float) -> float:
        """An attempt that is not found this long after it was written down never arrived.

        The call itself may have taken `step`; the provider may have acted `late_seconds` after that.
        """
        return self.step + late_seconds

    def until_poll(self, claim: Claim, random: Random) -> float:
        """A tenth of the age, so that a long run is looked at less often; soon when a stop was asked for."""
        if claim.cancel_seconds_ago is not None:
            wait = min(max(claim.cancel_seconds_ago / 4, 1), 30)
        else:
            wait = min(max(claim.status_seconds / 10, self.poll_shortest), self.poll_longest)
        return wait * random.uniform(0.9, 1.1)

    def until_retry(self, failures: int, random: Random, retry_after: float | None = None) -> float:
        """Full jitter, so that jobs which failed together do not come back together; never before the
        provider said that it may be asked again."""
        jitter = random.uniform(1, min(self.backoff_longest, 2.0 ** min(failures + 1, 9)))
        return jitter if retry_after is None else retry_after + min(jitter, max(1, retry_after))

    def overdue(self, claim: Claim) -> bool:
        """Whether the job, or its present phase, took too long."""
        limits = {
            JobStatus.PENDING: self.never_started,
            JobStatus.VALIDATING: self.queue,
            JobStatus.QUEUED: self.queue,
        }
        return claim.is_overdue or claim.status_seconds > limits.get(claim.job.status, float("inf"))

    def is_lost(self, claim: Claim) -> bool:
        """Whether a run that is not found once more is given up."""
        return claim.not_found + 1 >= self.lost_polls and claim.not_found_seconds >= self.lost_after
