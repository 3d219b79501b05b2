"""Attention within each row of a packed line: no mask of blocks, and nothing above the diagonal is computed.

With PyTorch's attention, transformers makes a mask of tokens by tokens for a packed line, and computes all of
it. Here each row is a causal attention of its own: on CUDA all of them in one call of PyTorch's
FlashAttention for variable lengths, elsewhere one after another.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NAME = "fineflow_rows"


def attend_within_rows(model: PreTrainedModel) -> bool:
    """Whether the model attends so from now on, in every batch that says where its rows begin.

    False for a model whose layers do more than plain causal attention; it is left as it was.
    """
    config: Any = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    others = ("sliding_window", "attention_chunk_size", "attn_logit_softcapping")
    if kinds != {"full_attention"} or any(getattr(config, name, None) for name in others):
        return False
    if model.config._attn_implementation != "sdpa":
        return False
    _register()
    model.set_attn_implementation(NAME)
    return bool(model.config._attn_implementation == NAME)


def _register() -> None:
    """transformers knows the name afterwards."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        max_length_q: int = 0,
        **known: Any,
    ) -> tuple[torch.Tensor, None]:
        if cu_seq_lens_q is None or attention_mask is not None or dropout:
            result: tuple[torch.Tensor, None] = sdpa_attention_forward(
                module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **known
            )
            return result
        return _within_rows(query, key, value, scaling, cu_seq_lens_q, max_length_q), None

    def mask(attention_mask: torch.Tensor | None = None, **known: Any) -> torch.Tensor | None:
        return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **known)

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)


def _within_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    begins: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    """Of three tensors (1, heads, tokens, head size) one (1, tokens, heads, head size).

    begins: where each row begins, and where the last one ends. longest: tokens of the longest row.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        within: Any = varlen_attn(
            queries, keys, values, begins, begins, longest, longest,
            scale=scaling, window_size=(-1, 0), enable_gqa=True,
        )  # fmt: skip
        return within[None]  # type: ignore[no-any-return]  # of Any
    rows = [
        scaled_dot_product_attention(
            query[:, :, begin:end], key[:, :, begin:end], value[:, :, begin:end],
            is_causal=True, scale=scaling, enable_gqa=True,
        )
        for begin, end in pairwise(begins.tolist())
    ]  # fmt: skip
    return torch.cat(rows, dim=2).transpose(1, 2).contiguous()
