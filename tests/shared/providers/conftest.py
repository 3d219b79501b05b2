"""How long a provider under test waits for its vendor."""

from __future__ import annotations

import pytest

from tests.fakes.http import Fault

HASTY_SECONDS, PATIENT_SECONDS = 0.5, 10.0


@pytest.fixture
def timeout_seconds(request: pytest.FixtureRequest) -> float:
    """Little where the vendor hangs, which the test waits out; enough for a busy machine everywhere else."""
    callspec = getattr(request.node, "callspec", None)
    given = callspec.params.values() if callspec else ()
    hangs = any(value.hang if isinstance(value, Fault) else str(value).startswith("hang") for value in given)
    return HASTY_SECONDS if hangs else PATIENT_SECONDS
