"""The life of a job, without a database."""

from itertools import pairwise

import pytest

from shared.jobs.state import ACTIVE, ENDED, TRANSITIONS, JobStatus, path


@pytest.mark.parametrize("start", JobStatus)
@pytest.mark.parametrize("end", JobStatus)
def test_a_path_walks_allowed_moves_and_arrives(start: JobStatus, end: JobStatus) -> None:
    steps = path(start, end)
    walked = [start, *steps]
    assert all(move in TRANSITIONS for move in pairwise(walked))
    assert not steps or steps[-1] == end


def test_an_ended_job_goes_nowhere() -> None:
    assert all(path(ended, end) == [] for ended in ENDED for end in JobStatus)


def test_a_late_answer_never_turns_a_job_back() -> None:
    assert path(JobStatus.TRAINING, JobStatus.QUEUED) == []
    assert path(JobStatus.TRAINING, JobStatus.VALIDATING) == []


def test_skipped_states_are_walked_through() -> None:
    assert path(JobStatus.UPLOADING, JobStatus.COMPLETED) == [
        JobStatus.VALIDATING,
        JobStatus.QUEUED,
        JobStatus.TRAINING,
        JobStatus.COMPLETED,
    ]


def test_every_active_job_can_fail_and_be_cancelled() -> None:
    assert all({(s, JobStatus.FAILED), (s, JobStatus.CANCELLED)} <= TRANSITIONS for s in ACTIVE)
