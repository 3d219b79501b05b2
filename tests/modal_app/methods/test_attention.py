"""Rows of a packed line attend to themselves alone, as if each stood on a line of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modal_app.methods.attention import NAME, attend_within_rows
from modal_app.methods.packing import Packer
from modal_app.tiny import tiny_base
from tests.conftest import Figure

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ROWS: list[dict[str, list[int]]] = [
    {"input_ids": [4 + (7 * row + 3 * place) % 200 for place in range(length)], "labels": [5] * length}
    for row, length in enumerate((60, 9, 30, 2, 28, 14, 31, 5))
]


def loaded(data_dir: Path) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM  # imports torch: not while tests are collected

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_base(data_dir))
    return model


def learned_from(model: PreTrainedModel, batches: list[dict[str, Any]]) -> tuple[float, torch.Tensor]:
    """The summed loss of all tokens that follow one of their row, and its gradient."""
    from torch import cat
    from torch.nn.functional import cross_entropy

    model.zero_grad()
    total = 0.0
    for batch in batches:
        known = {name: value for name, value in batch.items() if name != "labels"}
        logits = model(**known, use_cache=False).logits[0, :-1]
        begins = batch["position_ids"][0, 1:] == 0
        targets = batch["input_ids"][0, 1:].masked_fill(begins, -100)
        loss = cross_entropy(logits, targets, reduction="sum")
        loss.backward()
        total += loss.item()
    return total, cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def test_loss_and_gradient_are_those_of_rows_apart(data_dir: Path, figure: Figure) -> None:
    packer = Packer(3, one_line=True)
    apart, gradient_apart = learned_from(loaded(data_dir), [packer([row]) for row in ROWS])
    model = loaded(data_dir)
    assert attend_within_rows(model)
    together, gradient = learned_from(model, [packer(ROWS)])
    difference = float((gradient - gradient_apart).norm() / gradient_apart.norm())
    figure(f"loss {apart:.6f} apart, {together:.6f} on one line; gradients {difference:.1e} apart")
    assert together == pytest.approx(apart, rel=1e-6)
    assert difference < 1e-5


def test_padded_rows_and_generation_are_as_before(data_dir: Path) -> None:
    import torch

    before, model = loaded(data_dir).eval(), loaded(data_dir).eval()
    assert attend_within_rows(model)
    ids = torch.tensor([[9, 8, 7, 6, 5], [4, 5, 3, 3, 3]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    with torch.no_grad():
        logits, wanted = (each(input_ids=ids, attention_mask=mask).logits for each in (model, before))
    assert torch.allclose(logits[mask.bool()], wanted[mask.bool()], atol=1e-6)
    said, meant = (each.generate(ids[:1], max_new_tokens=8, do_sample=False) for each in (model, before))  # type: ignore[operator]  # a method of all language models
    assert torch.equal(said, meant)


def test_a_model_with_other_attention_is_left_alone(data_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, Gemma3TextConfig, Qwen2Config

    small: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    }  # fmt: skip
    sliding = Qwen2Config(**small, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    for config in (Gemma3TextConfig(**small, sliding_window=8), sliding):
        model: Any = AutoModelForCausalLM.from_config(config)
        assert not attend_within_rows(model)
        assert model.config._attn_implementation == "sdpa"
    whole: Any = AutoModelForCausalLM.from_config(Qwen2Config(**small, use_sliding_window=False))
    assert attend_within_rows(whole)


def test_a_saved_model_says_nothing_of_it(data_dir: Path, tmp_path: Path) -> None:
    model = loaded(data_dir)
    assert attend_within_rows(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
