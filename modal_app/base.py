"""Base models and tokenizers, loaded safely: safetensors only, and never a line of a model's own code."""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from modal_app.session.failures import RunFailed
from modal_app.settings import machine
from modal_app.tiny import tiny_base
from shared.datasets.loss_mask import PLAIN_TEMPLATE
from shared.training.catalog import TINY

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Loaded:
    """A model with the tokenizer that belongs to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    has_own_template: bool

    @property
    def context_length_tokens(self) -> int | None:
        """None: the architecture names no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def stop_ids(self) -> set[int]:
        """Every token that ends an answer."""
        config: Any = self.model.generation_config
        ids = config.eos_token_id if config else None
        known = ids if isinstance(ids, list) else [ids]
        return {token for token in [*known, self.tokenizer.eos_token_id] if token is not None}


def needs_network(base_model: str) -> bool:
    """Whether the Hub may be asked: not for what is built or lies here."""
    return base_model != TINY and not base_model.startswith("/")


def load(base_model: str, revision: str | None, *, dtype: torch.dtype) -> Loaded:
    """The model in evaluation mode on the CPU, and its tokenizer with a chat template and a padding token.

    Raises RunFailed: base_model_unavailable when there is nothing to load, base_model_unsupported
    when it is not a causal language model in safetensors that transformers knows.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(tiny_base(machine().data_dir)) if base_model == TINY else base_model
    if source.startswith("/") and not (Path(source) / "config.json").is_file():
        raise RunFailed("base_model_unavailable", f"{source} holds no model: there is no config.json in it.")
    if not source.startswith("/") and Path(source).exists():  # transformers would prefer it to the Hub
        raise RunFailed("base_model_unavailable", f"{source} is a path here; give it as an absolute path.")
    offline = not needs_network(base_model) or not _hub_is_reachable()
    safe: dict[str, Any] = {"revision": revision, "trust_remote_code": False, "local_files_only": offline}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **safe)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, **safe)
    except OSError as error:
        raise RunFailed("base_model_unavailable", _how_to_get(base_model)) from error
    except (ValueError, KeyError) as error:
        raise RunFailed(
            "base_model_unsupported",
            f"{base_model} cannot be loaded as a causal language model: {str(error).strip()[:300]}",
        ) from error
    has_own_template = bool(tokenizer.chat_template)
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return Loaded(model, tokenizer, has_own_template)


def _hub_is_reachable() -> bool:
    """Asked first: huggingface_hub tries an unreachable Hub for most of a minute, though it has a cache."""
    from huggingface_hub.constants import ENDPOINT

    if getproxies().get("https"):
        return True  # only the proxy knows
    hub = urlsplit(ENDPOINT)
    try:
        address = (hub.hostname or "", hub.port or (443 if hub.scheme == "https" else 80))
        socket.create_connection(address, timeout=HUB_TIMEOUT_SECONDS).close()
    except OSError:
        return False
    return True


def _how_to_get(base_model: str) -> str:
    return (
        f"{base_model} cannot be loaded. If it is a Hugging Face id, check its spelling, that it has "
        "safetensors weights, and that this machine reaches the Hub (for a gated model: with HF_TOKEN set). "
        f"Without network give the absolute path of a downloaded model, or use {TINY}."
    )


def template_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The sha256 of all that decides how messages become tokens around the words."""
    special = {str(token): tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    decisive = [tokenizer.chat_template, tokenizer.eos_token, tokenizer.bos_token, special]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
