"""Base models and tokenizers, loaded safely: safetensors only, and never a line of a model's own code."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from modal_app import hardware
from modal_app.session.failures import RunFailed
from modal_app.settings import machine
from modal_app.tiny import tiny_base
from shared.datasets.loss_mask import PLAIN_TEMPLATE
from shared.training.catalog import TINY

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB_TIMEOUT_SECONDS = 5.0
# An adapter of the Hub would be loaded on a base model that it names, and nobody has checked that name.
_NO_ADAPTERS = {"local_files_only": True}
_GENERATION_MARK = re.compile(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}")


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


def load(base_model: str, revision: str | None, *, dtype: torch.dtype, quantised: bool = False) -> Loaded:
    """The model in evaluation mode on the CPU, and its tokenizer with a chat template and a padding token.

    quantised: its linear layers are held in 4 bits (NF4, Dettmers et al. 2023), on the device that trains,
    and compute in `dtype`. Raises RunFailed: base_model_unavailable when there is nothing to load,
    base_model_unsupported when it is not a causal language model in safetensors that transformers knows.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, safe = source_of(base_model, revision)
    placed = _in_four_bits(dtype) if quantised else {}
    with refusing(base_model, "a causal language model"):
        tokenizer = AutoTokenizer.from_pretrained(source, **safe)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            adapter_kwargs=_NO_ADAPTERS,
            **placed,
            **safe,
        )
        model, found = loaded
        if quantised:
            _keep_trainable(model)
        if missing := sorted(found["missing_keys"]):  # transformers would make them up
            raise ValueError(f"its files have no {missing[0]}")
    return Loaded(model, tokenizer, has_own_template=completed(tokenizer))


def completed(tokenizer: PreTrainedTokenizerBase) -> bool:
    """The tokenizer has a chat template and a padding token; whether the template was its own."""
    has_own_template = bool(tokenizer.chat_template)
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return has_own_template


def source_of(base_model: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Where the model lies, and how it is loaded from there. Raises RunFailed when nothing can lie there."""
    source = str(tiny_base(machine().data_dir)) if base_model == TINY else base_model
    if source.startswith("/") and not (Path(source) / "config.json").is_file():
        raise RunFailed("base_model_unavailable", f"{source} holds no model: there is no config.json in it.")
    if not source.startswith("/") and Path(source).exists():  # transformers would prefer it to the Hub
        raise RunFailed("base_model_unavailable", f"{source} is a path here; give it as an absolute path.")
    offline = not needs_network(base_model) or not hub_is_reachable()
    return source, {"revision": revision, "trust_remote_code": False, "local_files_only": offline}


@contextmanager
def refusing(base_model: str, kind: str) -> Iterator[None]:
    """What loading raises becomes a RunFailed that says what to do."""
    try:
        yield
    except OSError as error:
        raise RunFailed("base_model_unavailable", _how_to_get(base_model)) from error
    except (ValueError, KeyError) as error:
        raise RunFailed(
            "base_model_unsupported", f"{base_model} cannot be loaded as {kind}: {str(error).strip()[:300]}"
        ) from error


def _keep_trainable(model: PreTrainedModel) -> None:
    """bitsandbytes does not turn the layers into a form that has no gradient.

    On a CPU with AVX512-BF16 it would at the first look at validation rows, and go on without a word.
    """
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _in_four_bits(compute_dtype: torch.dtype) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )
    return {"quantization_config": quantisation, "device_map": {"": hardware.device()}}


def hub_is_reachable() -> bool:
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


def plain_template(template: str) -> str:
    """The template without the marks that only trainers read: other programs stumble over them.

    A comment stands where a mark was, because a mark may also take away the white space beside it.
    """
    return _GENERATION_MARK.sub(r"{#\1 \2#}", template)


def template_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The sha256 of all that decides how messages become tokens around the words."""
    special = {str(token): tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens}
    template = plain_template(str(tokenizer.chat_template))
    decisive = [template, tokenizer.eos_token, tokenizer.bos_token, special]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
