"""Low-rank adapters (Hu et al. 2021): where they sit, and how large they are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from modal_app.session.failures import RunFailed
from shared.training.catalog import TINY
from shared.training.spec import RunSpec

if TYPE_CHECKING:
    import torch
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


def compute_lean(model: torch.nn.Module) -> None:
    """The adapters compute the same with fewer passes over what they read and write.

    peft casts all that an adapter reads to the adapter's dtype, and scales and adds in passes of their own.
    Here the adapter's small matrices are cast, and the product of the second one is added as it is made.
    """
    import torch
    from peft.tuners.lora import LoraLayer
    from torch.nn.functional import linear

    def forward(layer: Any, whole: Any, x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        if arguments or named or layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
            return whole(x, *arguments, **named)  # type: ignore[no-any-return]  # of Any
        name = layer.active_adapters[0]
        known: torch.Tensor = layer.base_layer(x)
        down, up = layer.lora_A[name].weight.to(x.dtype), layer.lora_B[name].weight.to(known.dtype)
        narrow = linear(layer.lora_dropout[name](x), down).to(known.dtype) * layer.scaling[name]
        return torch.addmm(known.flatten(0, -2), narrow.flatten(0, -2), up.t()).view_as(known)

    for module in model.modules():
        is_linear = isinstance(getattr(module, "base_layer", None), torch.nn.Linear)
        if isinstance(module, LoraLayer) and is_linear and not module.lora_variant:
            layer: Any = module
            layer.forward = partial(forward, layer, layer.forward)
