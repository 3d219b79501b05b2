"""What 'automatic' means for a base model and a method."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.training.catalog import CATALOG, TINY, misplaced, parameter_count, resolve, unfit
from shared.training.config import METHODS, SUPERVISED, Method, TrainingConfig
from shared.training.spec import BaseModelId


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("base_model", [TINY, "Qwen/Qwen3-0.6B"])
def test_nothing_stays_automatic(base_model: str, method: Method) -> None:
    resolved = resolve(TrainingConfig(), base_model, method)
    assert None not in resolved.model_dump().values()
    assert resolve(resolved, base_model, method) == resolved


def test_what_a_user_sets_stays() -> None:
    chosen = TrainingConfig(
        learning_rate=1e-5,
        lr_scheduler="constant",
        batch_size=2,
        max_length=64,
        warmup_ratio=0,
        packing=False,
        save_steps=7,
        eval_steps=3,
    )
    assert resolve(chosen, TINY, "full") == chosen


def test_large_models_move_at_half_the_rate() -> None:
    rates = {
        base: resolve(TrainingConfig(), base, method).learning_rate
        for base, method in (("x/7B", "full"), ("y/13B", "full"), ("x/8B", "qlora"), ("y/70B", "qlora"))
    }
    assert rates == {"x/7B": 2e-5, "y/13B": 1e-5, "x/8B": 2e-4, "y/70B": 1e-4}


def test_only_supervised_rows_are_packed() -> None:
    wanted = TrainingConfig(packing=True)
    assert {method for method in METHODS if resolve(wanted, TINY, method).packing} == SUPERVISED
    assert not resolve(TrainingConfig(packing=False), TINY, "lora").packing


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"lora_r": 0},
        {"target_modules": []},
        {"target_modules": ["model.*"]},
        {"target_modules": "q_proj"},
        {"beta": 0},
        {"lr_scheduler": "warp"},
        {"early_stopping_patience": -1},
        {"gradient_checkpointing": True},
    ],
)
def test_a_setting_outside_its_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate(wrong)


def test_a_config_survives_its_row() -> None:
    config = resolve(TrainingConfig(target_modules=("q_proj", "v_proj")), TINY, "lora")
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config


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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        (TINY, 656_000),
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("meta-llama/Llama-3.1-70B-Instruct", 70_000_000_000),
        ("google/gemma-3-270m-it", 270_000_000),
        ("acme/Doors-1.5b", 1_500_000_000),
        ("/models/mine-3B", 3_000_000_000),
        ("mistralai/Mixtral-8x7B-v0.1", None),
        ("Qwen/Qwen1.5-MoE-A2.7B", None),
        ("Qwen/Qwen3-30B-A3B", 30_000_000_000),
        ("70B-club/door-opener", None),
        ("gpt2", None),
    ],
)
def test_the_size_is_in_the_catalogue_or_in_the_name(name: str, parameters: int | None) -> None:
    assert parameter_count(name) == parameters


def test_names_agree_with_the_catalogue() -> None:
    for model in CATALOG.values():
        assert TypeAdapter(BaseModelId).validate_python(model.id) == model.id
        assert model.license
        assert model.context_length >= (1024 if model.answers else 512)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_model_of_vectors_learns_no_answers(method: Method) -> None:
    reason = unfit("BAAI/bge-small-en-v1.5", method)
    assert (reason is None) == (method == "embedding")
    assert unfit("Qwen/Qwen3-4B", method) is unfit(TINY, method) is unfit("gpt2", method) is None


@pytest.mark.parametrize(
    ("base_model", "provider"),
    [
        ("gpt-4.1-mini", "local"),
        ("o4-mini", "modal"),
        ("gpt-4o-2024-08-06", "together"),
        ("claude-opus-4", "openai"),
        ("gemini-3.8-flash", "huggingface"),
        (TINY, "openai"),
        (TINY, "together"),
        ("/models/mine", "modal"),
        ("Qwen/Qwen3-4B", "openai"),
    ],
)
def test_a_base_model_of_somebody_else_is_told_apart(base_model: str, provider: str) -> None:
    reason = misplaced(base_model, provider)
    assert reason
    assert base_model in reason


@pytest.mark.parametrize(
    ("base_model", "provider"),
    [
        ("gpt-4.1-mini", "openai"),
        ("gpt2", "local"),
        ("openai/gpt-oss-20b", "modal"),
        ("gpt-oss-20b", "local"),
        (TINY, "local"),
        (TINY, "modal"),
        ("/models/mine", "local"),
        ("Qwen/Qwen3-4B", "together"),
        ("claude-opus-4", "anthropic"),
        ("gpt-4.1-mini", "a-provider-of-tomorrow"),
    ],
)
def test_nothing_speaks_against_a_fitting_one(base_model: str, provider: str) -> None:
    assert misplaced(base_model, provider) is None
