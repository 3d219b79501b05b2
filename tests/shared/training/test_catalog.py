"""What 'automatic' means for a base model and a method."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.training.catalog import TINY, resolve
from shared.training.spec import BaseModelId, Method, TrainingConfig


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("base_model", [TINY, "Qwen/Qwen3-0.6B"])
def test_nothing_stays_automatic(base_model: str, method: Method) -> None:
    resolved = resolve(TrainingConfig(), base_model, method)
    assert None not in resolved.model_dump().values()
    assert resolve(resolved, base_model, method) == resolved


def test_what_a_user_sets_stays() -> None:
    chosen = TrainingConfig(
        learning_rate=1e-5, lr_scheduler="constant", batch_size=2, max_length=64, warmup_ratio=0, save_steps=7
    )
    assert resolve(chosen, TINY, "full") == chosen


def test_the_multiplier_scales_the_automatic_rate_only() -> None:
    automatic = resolve(TrainingConfig(), TINY, "lora").learning_rate
    assert automatic is not None
    assert resolve(TrainingConfig(learning_rate_multiplier=2), TINY, "lora").learning_rate == 2 * automatic
    fixed = TrainingConfig(learning_rate=0.5, learning_rate_multiplier=2)
    assert resolve(fixed, TINY, "lora").learning_rate == 0.5


@pytest.mark.parametrize("name", [TINY, "gpt2", "Qwen/Qwen3-0.6B", "/models/my model"])
def test_names_of_base_models(name: str) -> None:
    assert TypeAdapter(BaseModelId).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "../up", "a/b/c", "-x/y", "a b", "/", "a/../b", "http://host/a"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(BaseModelId).validate_python(name)
