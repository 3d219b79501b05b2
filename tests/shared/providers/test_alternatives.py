"""What is offered where a provider will not have an account or a model."""

from __future__ import annotations

import json

import pytest

from shared.providers.alternatives import alternative, with_alternative
from shared.training.config import Method
from shared.training.estimate import Estimate, on_gpu
from shared.training.files import TrainingFile
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import RunSpec
from tests.shared.providers.scripted import ScriptedProvider
from tests.shared.training.runs import rows, run

FILE = rows(100, tokens=4_306)


class Rented(ScriptedProvider):
    def estimate(self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
        return on_gpu(spec, dataset, provider=self.name, gpu=spec.gpu, known=known)


def place(name: str, *methods: Method) -> ScriptedProvider:
    kind = ScriptedProvider if name == "local" else Rented
    return kind(name, methods=frozenset(methods or ("full", "lora")))


@pytest.mark.parametrize(
    ("names", "chosen", "base_model"),
    [
        (("local", "modal", "huggingface", "openai"), "modal", "Qwen/Qwen3-4B"),
        (("local", "huggingface"), "huggingface", "Qwen/Qwen3-4B"),
        (("local", "together"), "local", "Qwen/Qwen3-0.6B"),
    ],
)
def test_the_first_place_that_is_here(names: tuple[str, ...], chosen: str, base_model: str) -> None:
    offer = alternative({name: place(name) for name in names}, run("gpt-4.1", "full", epochs=20), FILE)
    assert offer
    assert (offer["provider"], offer["baseModel"], offer["method"]) == (chosen, base_model, "lora")
    assert offer["trainingConfig"] == {"epochs": 20}
    assert offer["billableTokens"] == 86_120
    assert offer["license"] == "apache-2.0"
    assert (offer["costUsd"] == 0) == (chosen == "local")
    assert json.loads(json.dumps(offer)) == offer


def test_preferences_find_a_place_only_where_they_can_be_trained() -> None:
    preferences = run("gpt-4.1", "dpo")
    assert alternative({"modal": place("modal"), "local": place("local")}, preferences, FILE) is None


def test_nothing_is_offered_where_nothing_is() -> None:
    assert alternative({"openai": ScriptedProvider("openai")}, run("gpt-4.1", "full"), FILE) is None
    assert with_alternative(None, None) is None
    assert with_alternative({"a": 1}, None) == {"a": 1}
    assert with_alternative("text", {"provider": "local"}) == {"alternative": {"provider": "local"}}
