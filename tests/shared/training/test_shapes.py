"""The shape of a model from its config.json: counts as published, and what strangers may write in one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.training.catalog import CATALOG, TINY, shape
from shared.training.shapes import ShapeUnknown, like, published, shape_of_config

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}


def config(
    model_type: str, hidden: int, layers: int, heads: int, kv: int, wide: int, words: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": wide,
        "vocab_size": words,
        "tie_word_embeddings": False,
        **more,
    }


@pytest.mark.parametrize("base_model", sorted(published()))
def test_the_formula_counts_what_the_maker_publishes(base_model: str) -> None:
    model = published()[base_model]
    assert model.shape.parameters == pytest.approx(model.parameters, rel=0.01)
    assert base_model == TINY or base_model in model.source


# Counts as the Hub shows them for microsoft/Phi-3-mini-4k-instruct, mistralai/Mistral-7B-Instruct-v0.3,
# mistralai/Mixtral-8x7B-v0.1 and Qwen/Qwen3-30B-A3B; of the mixtures also what a token meets, by their cards.
@pytest.mark.parametrize(
    ("said", "parameters", "met"),
    [
        (config("phi3", 3072, 32, 32, 32, 8192, 32_064), 3_821_079_552, 3.8e9),
        (config("mistral", 4096, 32, 32, 8, 14_336, 32_768), 7_248_023_552, 7.2e9),
        (
            config("mixtral", 4096, 32, 32, 8, 14_336, 32_000, num_local_experts=8, num_experts_per_tok=2),
            46_702_792_704,
            12.9e9,
        ),
        (
            config(
                "qwen3_moe", 2048, 48, 32, 4, 6144, 151_936,
                head_dim=128, moe_intermediate_size=768, num_experts=128, num_experts_per_tok=8,
            ),
            30_532_122_624,
            3.3e9,
        ),
    ],
)  # fmt: skip
def test_other_families_are_counted_too(said: dict[str, Any], parameters: int, met: float) -> None:
    counted = shape_of_config(said)
    assert counted.parameters == parameters
    assert counted.matmul_parameters == pytest.approx(met, rel=0.1)


def test_the_catalogue_holds_shapes_from_a_tenth_to_seventy_billions() -> None:
    sizes = sorted(base.parameters for base in CATALOG.values() if base.answers and base.id != TINY)
    assert len(sizes) == 12
    assert sizes[0] < 0.2e9 < 70e9 < sizes[-1]
    assert set(published()) == set(CATALOG)


def test_a_model_of_which_only_the_size_is_known_is_built_like_its_neighbour() -> None:
    for parameters in (300_000_000, 3_000_000_000, 30_000_000_000, 400_000_000_000):
        assert like(parameters).parameters == pytest.approx(parameters, rel=0.05)
    assert like(7_000_000_000).layers in (32, 36)
    assert shape("acme/own-30B") == like(30_000_000_000)
    assert shape("acme/own") is None


def test_a_model_that_sees_images_has_the_shape_of_its_language_model() -> None:
    assert shape_of_config({"model_type": "gemma3", "text_config": LLAMA}) == shape_of_config(LLAMA)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        (b"\xff\xfe", "config.json"),
        ("[]", "config.json"),
        ("{", "config.json"),
        (json.dumps(LLAMA | {"hidden_size": 10**9}), "hidden_size"),
        (json.dumps(LLAMA | {"num_hidden_layers": -1}), "num_hidden_layers"),
        (json.dumps(LLAMA | {"num_attention_heads": 0}), "num_attention_heads"),
        (json.dumps(LLAMA | {"vocab_size": 1e300}), "vocab_size"),
        (json.dumps({name: value for name, value in LLAMA.items() if name != "vocab_size"}), "vocab_size"),
        (json.dumps(LLAMA | {"model_type": "warp"}), "warp"),
        (json.dumps({"text_config": {"text_config": LLAMA}}), "model_type"),
    ],
)
def test_what_is_no_shape_is_named(said: str | bytes, named: str) -> None:
    with pytest.raises(ShapeUnknown, match=named):
        shape_of_config(said)
