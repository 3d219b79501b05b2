"""As much of axolotl 0.19.0 as our trainer calls, by transformers and peft: no GPU, no kernels."""

from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from axolotl.utils.dict import DictDefault


def setup_model_and_tokenizer(cfg: DictDefault) -> tuple[Any, Any, Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(cfg.base_model)
    model, adapters = AutoModelForCausalLM.from_pretrained(cfg.base_model), None
    if cfg.adapter:
        where = "all-linear" if cfg.lora_target_linear else cfg.lora_target_modules
        adapters = LoraConfig(
            r=cfg.lora_r, lora_alpha=cfg.lora_alpha, lora_dropout=cfg.lora_dropout, target_modules=where,
            task_type="CAUSAL_LM",
        )  # fmt: skip
        model = get_peft_model(model, adapters)
    return model, tokenizer, adapters, None
