"""Adapters that compute lean compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modal_app.methods.lora import compute_lean
from modal_app.tiny import tiny_base

# peft 0.21 asks transformers 5.23 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapted(data_dir: Path, dtype: str) -> Any:
    """The tiny model with adapters that say something; the same each time."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base(data_dir), dtype=getattr(torch, dtype))
    adapters = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(5)
    peft: Any = get_peft_model(model, adapters)
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    return peft


def computed(model: Any) -> tuple[Any, Any]:
    """Logits, and the gradients of all that is trained."""
    import torch

    ids = torch.tensor([[9, 8, 7, 6, 5, 4], [5, 6, 7, 8, 9, 10]])
    logits = model(input_ids=ids).logits.float()
    logits.square().mean().backward()
    gradients = [weight.grad.float().flatten() for weight in model.parameters() if weight.requires_grad]
    return logits.detach(), torch.cat(gradients)


@pytest.mark.parametrize(("dtype", "difference"), [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_answers_and_gradients_are_the_same(data_dir: Path, dtype: str, difference: float) -> None:
    plain, lean = adapted(data_dir, dtype), adapted(data_dir, dtype)
    compute_lean(lean)
    for wanted, found in zip(computed(plain), computed(lean), strict=True):
        assert float((found - wanted).norm() / wanted.norm()) < difference


def test_adapters_can_still_be_put_aside_and_merged(data_dir: Path) -> None:
    import torch

    model, ids = adapted(data_dir, "float32"), torch.tensor([[9, 8, 7, 6]])
    compute_lean(model)
    with torch.no_grad():
        with model.disable_adapter():
            without = model(input_ids=ids).logits
        adapted_logits = model(input_ids=ids).logits
        merged = model.merge_and_unload()(input_ids=ids).logits
    assert torch.allclose(merged, adapted_logits, atol=1e-4)
    assert not torch.allclose(without, adapted_logits, atol=1e-2)
