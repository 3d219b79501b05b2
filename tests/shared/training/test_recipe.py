"""Recipes as files: closed, and refused with the field that is wrong."""

from __future__ import annotations

import json

import pytest

from shared.errors import InvalidRequest
from shared.training.catalog import TINY, resolve
from shared.training.config import TrainingConfig
from shared.training.recipe import MAX_RECIPE_BYTES, Recipe, read_recipe

RECIPE = Recipe(
    base_model=TINY,
    method="full",
    config=resolve(TrainingConfig(epochs=2), TINY, "full"),
    dataset_sha256="a" * 64,
    spec_fingerprint="b" * 64,
    device="cpu",
    threads=1,
    python="3.11.7",
    libraries={"torch": "2.13.0", "trl": "1.16.0"},
)


def test_a_file_gives_the_same_recipe_and_the_same_file() -> None:
    content = RECIPE.written()
    assert read_recipe(content.encode(), "recipe.json") == RECIPE
    assert read_recipe(content.encode(), "recipe.json").written() == content
    assert set(json.loads(content)) == set(Recipe.model_fields)
    assert json.loads(content)["config"]["learning_rate"] == RECIPE.config.learning_rate


def test_a_resolved_config_is_resolved_to_itself() -> None:
    assert resolve(RECIPE.config, RECIPE.base_model, RECIPE.method) == RECIPE.config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"config": {"epochs": 99}}, "config.epochs: Input should be less than or equal to 50"),
        ({"config": {"epoch": 1}}, "config.epoch: Extra inputs are not permitted"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"base_model": "../../etc/passwd"}, "base_model: String should match pattern"),
        ({"dataset_sha256": "abc"}, "dataset_sha256: String should match pattern"),
        ({"method": None}, "method: Input should be 'full'"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], told: str) -> None:
    content = json.dumps(json.loads(RECIPE.written()) | change)
    with pytest.raises(InvalidRequest, match=r"^old\.json is no recipe: ") as refused:
        read_recipe(content.encode(), "old.json")
    assert told in refused.value.message


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{" * 100_000, b" " * (MAX_RECIPE_BYTES + 1)])
def test_what_is_no_recipe_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"old\.json is no recipe"):
        read_recipe(content, "old.json")


def test_libraries_that_differ_are_named() -> None:
    assert RECIPE.differences({"torch": "2.13.0", "trl": "1.16.0", "more": "1"}) == []
    assert RECIPE.differences({"torch": "2.14.0", "trl": None}) == [
        "torch was 2.13.0, here it is 2.14.0",
        "trl was 1.16.0, here it is not installed",
    ]
