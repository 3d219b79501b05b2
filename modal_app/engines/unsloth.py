"""Unsloth: its model and adapters, our rows, mask and callbacks, and TRL's trainer as it changes it.

Written by the source of unsloth 2026.10.9 and never run: it needs a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modal_app.base import Loaded, completed, refusing, source_of
from modal_app.methods.arguments import loop_arguments
from modal_app.methods.language import LanguageLearner
from shared.training.config import ADAPTERS
from shared.training.spec import RunSpec

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback


def load_arguments(spec: RunSpec, source: str) -> dict[str, Any]:
    """What FastLanguageModel.from_pretrained is called with."""
    return {
        "model_name": source,
        "revision": spec.base_revision,
        "use_exact_model_name": True,  # or it takes an upload of Unsloth's in place of the base model
        "trust_remote_code": False,
        "max_seq_length": spec.config.max_length,
        "load_in_4bit": spec.method == "qlora",
        "load_in_16bit": spec.method == "lora",
        "full_finetuning": spec.method == "full",
        "random_state": spec.config.seed,
    }


def adapter_arguments(spec: RunSpec) -> dict[str, Any]:
    """What FastLanguageModel.get_peft_model is called with, beside the model."""
    wanted = spec.config.target_modules
    return {
        "r": spec.config.lora_r,
        "lora_alpha": spec.config.lora_alpha,
        "lora_dropout": spec.config.lora_dropout,
        "target_modules": wanted if isinstance(wanted, str) else list(wanted),
        "bias": "none",
        "use_gradient_checkpointing": "unsloth",
        "random_state": spec.config.seed,
        "max_seq_length": spec.config.max_length,
    }


class UnslothLearner(LanguageLearner):
    """A run with the engine unsloth. Rows are laid out by Unsloth: `packing` changes nothing."""

    def _load(self) -> Loaded:
        from unsloth import FastLanguageModel

        spec = self._task.spec
        source, _ = source_of(self._task.base_source, spec.base_revision)
        with refusing(spec.base_model, "a model that Unsloth knows"):
            model, tokenizer = FastLanguageModel.from_pretrained(**load_arguments(spec, source))
        if spec.method in ADAPTERS:
            model = FastLanguageModel.get_peft_model(model, **adapter_arguments(spec))
        return Loaded(model, tokenizer, has_own_template=completed(tokenizer))

    def _build(self, callbacks: Sequence[TrainerCallback]) -> Trainer:
        from datasets import Dataset
        from transformers import DataCollatorForSeq2Seq
        from trl.trainer.sft_config import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        config, held_out = self._task.spec.config, self._held_out
        assert config.batch_size
        arguments = loop_arguments(
            self._task,
            rows_at_once=self.rows_at_once,
            example_count=len(self._data.rows),
            held_out=held_out is not None,
        )
        trainer: Trainer = SFTTrainer(
            model=self._base.model,
            args=SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
            train_dataset=Dataset.from_list(self._data.rows),
            eval_dataset=Dataset.from_list(held_out.rows) if held_out else None,
            processing_class=self._base.tokenizer,
            data_collator=DataCollatorForSeq2Seq(self._base.tokenizer),  # pads labels too, unlike TRL's own
            callbacks=list(callbacks),
        )
        return trainer
