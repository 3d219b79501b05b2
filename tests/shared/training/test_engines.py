"""What an engine cannot do is known before a run is paid for."""

from __future__ import annotations

import pytest

from shared.training.config import METHODS, SUPERVISED, Engine, Method, TrainingConfig
from shared.training.engines import unsuited

PROVIDERS = ("local", "modal", "huggingface", "openai", "together", "anthropic")


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("provider", PROVIDERS)
def test_trl_is_refused_nothing(method: Method, provider: str) -> None:
    assert unsuited(TrainingConfig(), method, provider) is None


@pytest.mark.parametrize("engine", ["unsloth", "axolotl"])
def test_the_others_train_supervised_and_at_modal_where_their_images_are(engine: Engine) -> None:
    config = TrainingConfig(engine=engine)
    suited = {
        (method, provider)
        for method in METHODS
        for provider in PROVIDERS
        if unsuited(config, method, provider) is None
    }
    assert suited == {(method, "modal") for method in SUPERVISED}
    assert "engine 'trl'" in (unsuited(config, "dpo", "modal") or "")
    assert "provider 'modal'" in (unsuited(config, "lora", "openai") or "")
