"""What errors carry."""

import math

import pytest

from shared.errors import LONGEST_RETRY_SECONDS, ProviderBusy
from shared.llm.base import TryLater


@pytest.mark.parametrize(
    ("named", "kept"),
    [
        (None, None),
        (0.0, 0.0),
        (7.5, 7.5),
        (-1.0, None),
        (math.nan, None),
        (math.inf, LONGEST_RETRY_SECONDS),
        (1e300, LONGEST_RETRY_SECONDS),
    ],
)
def test_a_provider_cannot_name_a_time_that_no_row_holds(named: float | None, kept: float | None) -> None:
    assert ProviderBusy("Busy.", retry_after_seconds=named).retry_after_seconds == kept
    assert TryLater("Busy.", retry_after_seconds=named).details == {"retryAfterSeconds": kept}
