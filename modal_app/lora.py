"""Low-rank adapters (Hu et al. 2021): where they sit, and how large they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modal_app.session.failures import RunFailed
from shared.training.catalog import TINY
from shared.training.spec import RunSpec

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel


def adapters(spec: RunSpec, model: PreTrainedModel) -> LoraConfig:
    """The adapters of this run. Raises RunFailed for a layer that the model does not have."""
    from peft import LoraConfig

    wanted = spec.config.target_modules
    if not isinstance(wanted, str):
        _require_layers(wanted, model)
    # Noise cannot be adapted: of the tiny model the embedding is trained too, tied to the output as it was.
    extra: dict[str, Any] = (
        {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True} if spec.base_model == TINY else {}
    )
    return LoraConfig(
        r=spec.config.lora_r,
        lora_alpha=spec.config.lora_alpha,
        lora_dropout=spec.config.lora_dropout,
        target_modules=wanted if isinstance(wanted, str) else list(wanted),
        task_type="CAUSAL_LM",
        **extra,
    )


def _require_layers(names: tuple[str, ...], model: PreTrainedModel) -> None:
    import torch

    output = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    }
    if unknown := sorted(set(names) - linear):
        raise RunFailed(
            "target_modules_unknown",
            f"The base model has no linear layer {unknown[0]} that can be adapted."
            f" It has {', '.join(sorted(linear))}.",
        )
