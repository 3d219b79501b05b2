"""As much of unsloth 2026.10.9 as our trainer calls, by transformers and peft: no GPU, no kernels."""

from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer


class FastLanguageModel:
    # Parameters of the real one, in its order, as far as they are given by name.
    @staticmethod
    def from_pretrained(
        model_name: str,
        max_seq_length: int,
        dtype: Any = None,
        load_in_4bit: bool = True,
        load_in_16bit: bool = False,
        full_finetuning: bool = False,
        trust_remote_code: bool = False,
        revision: str | None = None,
        use_exact_model_name: bool = False,
        random_state: int = 3407,
    ) -> tuple[Any, Any]:
        assert load_in_4bit + load_in_16bit + full_finetuning == 1, "it takes one of them"
        assert use_exact_model_name
        assert not trust_remote_code
        return AutoModelForCausalLM.from_pretrained(model_name), AutoTokenizer.from_pretrained(model_name)

    @staticmethod
    def get_peft_model(
        model: Any,
        r: int,
        target_modules: str | list[str],
        lora_alpha: int,
        lora_dropout: float,
        bias: str,
        use_gradient_checkpointing: str,
        random_state: int,
        max_seq_length: int,
    ) -> Any:
        config = LoraConfig(
            r=r, target_modules=target_modules, lora_alpha=lora_alpha, lora_dropout=lora_dropout, bias=bias,
            task_type="CAUSAL_LM",
        )  # fmt: skip
        return get_peft_model(model, config)
