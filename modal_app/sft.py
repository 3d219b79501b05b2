"""Supervised fine-tuning through TRL: all weights, or LoRA adapters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.base import Loaded
from modal_app.data import TrainingRows
from shared.datasets.loss_mask import IGNORED
from shared.training.catalog import TINY
from shared.training.spec import RunSpec

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

MICRO_BATCH_TOKENS = 16_384  # of one forward and backward pass
SMALL_VOCABULARY = 8_192  # tokens whose logits fit in memory beside each other
_LOGGED_STEPS = 1_000  # at most about so many loss values are kept in the trainer's state


def build_trainer(
    spec: RunSpec, base: Loaded, data: TrainingRows, checkpoints: Path, callback: TrainerCallback
) -> SFTTrainer:
    """A trainer ready to `train()`. It writes checkpoints, prints nothing and reports to nobody else."""
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback
    from trl.trainer.sft_trainer import SFTTrainer

    small_on_cpu = hardware.device() == "cpu" and len(base.tokenizer) <= SMALL_VOCABULARY
    trainer_class = _small_vocabulary_trainer() if small_on_cpu else SFTTrainer
    trainer = trainer_class(
        model=base.model,
        args=_arguments(spec, data, checkpoints),
        train_dataset=Dataset.from_list(data.rows),  # in memory: nothing is cached on disk
        processing_class=base.tokenizer,
        peft_config=_lora(spec) if spec.method == "lora" else None,
        callbacks=[callback],
    )
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    return trainer


def micro_batch_rows(batch_size: int, longest_row_tokens: int) -> int:
    """How many rows pass at once: the largest divisor of the batch size that keeps to MICRO_BATCH_TOKENS."""
    fitting = max(1, MICRO_BATCH_TOKENS // longest_row_tokens)
    return max(rows for rows in range(1, batch_size + 1) if batch_size % rows == 0 and rows <= fitting)


def total_steps(spec: RunSpec, data: TrainingRows) -> int:
    """Optimiser steps of the whole run. The last batch of an epoch may be smaller."""
    assert spec.config.batch_size is not None
    return math.ceil(len(data.rows) / spec.config.batch_size) * spec.config.epochs


def _arguments(spec: RunSpec, data: TrainingRows, checkpoints: Path) -> SFTConfig:
    from trl.trainer.sft_config import SFTConfig

    config, on_cuda = spec.config, hardware.device() == "cuda"
    assert config.batch_size
    assert config.learning_rate
    assert config.save_steps
    assert config.lr_scheduler
    rows = micro_batch_rows(config.batch_size, data.longest_tokens)
    return SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=config.batch_size // rows,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=round((config.warmup_ratio or 0) * total_steps(spec, data)),
        weight_decay=config.weight_decay,
        seed=config.seed,
        max_length=None,  # the rows are cut to measure already, and TRL would cut in silence
        bf16=on_cuda,
        use_cpu=hardware.device() == "cpu",
        activation_checkpointing=on_cuda,
        dataloader_pin_memory=on_cuda,
        logging_steps=max(1, total_steps(spec, data) // _LOGGED_STEPS),
        logging_nan_inf_filter=False,  # it would replace a NaN by an average
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=2,  # the one before is still whole while the next is written
        report_to="none",
        disable_tqdm=True,
    )


def _lora(spec: RunSpec) -> LoraConfig:
    from peft import LoraConfig

    # Noise cannot be adapted: of the tiny model the embedding is trained too, tied to the output as it was.
    extra: dict[str, Any] = (
        {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True} if spec.base_model == TINY else {}
    )
    return LoraConfig(
        r=spec.config.lora_r,
        lora_alpha=spec.config.lora_alpha,
        lora_dropout=spec.config.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        **extra,
    )


def _small_vocabulary_trainer() -> type[SFTTrainer]:
    """TRL's trainer with a plainer loss: the same number in half the time on a CPU.

    TRL's own never holds the logits of a large vocabulary, and pays for that by scoring every position
    twice, prompts included. With a small vocabulary there is nothing to save.
    """
    from torch.nn.functional import cross_entropy
    from trl.trainer.sft_trainer import SFTTrainer

    class SmallVocabularyTrainer(SFTTrainer):
        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: dict[str, torch.Tensor],
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> torch.Tensor:
            learned = inputs["labels"][:, 1:] != IGNORED
            first = int(learned.any(dim=0).nonzero()[0])  # no answer begins before this position
            targets, learned = inputs["labels"][:, 1 + first :], learned[:, first:]
            logits = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                logits_to_keep=1 + targets.size(1),
                use_cache=False,
            ).logits[:, :-1]
            total = cross_entropy(logits[learned], targets[learned], reduction="sum")
            return total / (learned.sum() if num_items_in_batch is None else num_items_in_batch)

    return SmallVocabularyTrainer
