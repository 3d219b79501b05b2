"""The benchmark for GPUs runs from end to end where there is none, in its small form."""

from __future__ import annotations

import math

import pytest

from benchmarks import train_gpu
from benchmarks.training.runs import device_name
from tests.conftest import Figure


def test_the_small_form_measures_all_that_need_no_gpu(figure: Figure) -> None:
    if device_name():
        pytest.skip("there is a GPU: python -m benchmarks.train_gpu runs its large form")
    result = train_gpu.compare(train_gpu.SMALL, None)
    figure(result)
    assert set(result["tokens_per_second"]) == {"ours", "plain", "packed"}
    assert all(rate > 0 for rate in result["tokens_per_second"].values())
    losses = result["loss"]
    assert all(math.isfinite(loss) for loss in losses.values())
    assert losses["ours"] == pytest.approx(losses["plain"], rel=0.01)
