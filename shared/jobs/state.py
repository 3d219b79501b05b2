"""The life of a job, once. The database holds the same table and refuses every other move."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise


class JobStatus(StrEnum):
    PENDING = "pending"
    UPLOADING = "uploading"
    VALIDATING = "validating"
    QUEUED = "queued"
    TRAINING = "training"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_FORWARD = (
    JobStatus.PENDING,
    JobStatus.UPLOADING,
    JobStatus.VALIDATING,
    JobStatus.QUEUED,
    JobStatus.TRAINING,
    JobStatus.COMPLETED,
)
ACTIVE = frozenset(_FORWARD[:-1])
ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

TRANSITIONS: frozenset[tuple[JobStatus, JobStatus]] = frozenset(
    [
        *pairwise(_FORWARD),
        *((status, end) for status in ACTIVE for end in (JobStatus.FAILED, JobStatus.CANCELLED)),
        (JobStatus.UPLOADING, JobStatus.PENDING),  # the provider could not be reached, nothing was started
    ]
)


def path(start: JobStatus, end: JobStatus) -> list[JobStatus]:
    """The moves that lead from `start` to `end`, `start` left out: a provider may be seen to skip some.

    Empty when there is nothing to do, also when `end` lies behind: a late answer never turns a job back.
    """
    if (start, end) in TRANSITIONS:
        return [end]
    if start in ENDED or end not in _FORWARD or start not in _FORWARD:
        return []
    return list(_FORWARD[_FORWARD.index(start) + 1 : _FORWARD.index(end) + 1])
