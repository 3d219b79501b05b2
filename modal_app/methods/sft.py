"""Supervised fine-tuning through TRL: all weights, or adapters beside whole or quantised ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.base import Loaded
from modal_app.methods.arguments import is_sharded, loop_arguments
from modal_app.methods.attention import attend_within_rows
from modal_app.methods.data import TrainingRows
from modal_app.methods.lora import adapters, compute_lean
from modal_app.methods.packing import Packer, isolates, real_tokens
from modal_app.ranks.place import shard_on_cpu_too
from modal_app.ranks.rows import sharing
from modal_app.task import Task
from shared.datasets.loss_mask import IGNORED
from shared.training.config import ADAPTERS

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader
    from transformers import TrainerCallback
    from trl.trainer.sft_trainer import SFTTrainer

SMALL_VOCABULARY = 8_192  # tokens whose logits fit in memory beside each other


def build_trainer(
    task: Task,
    base: Loaded,
    data: TrainingRows,
    held_out: TrainingRows | None,
    callbacks: Sequence[TrainerCallback],
    *,
    rows_at_once: int,
) -> SFTTrainer:
    """A trainer ready to `train()`."""
    import torch
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig

    spec, on_cuda = task.spec, hardware.device() == "cuda"
    arguments = loop_arguments(
        task,
        rows_at_once=rows_at_once,
        example_count=len(data.rows),
        held_out=held_out is not None,
    )
    trainer_class = _trainer_class(
        small_vocabulary=hardware.device() == "cpu" and len(base.tokenizer) <= SMALL_VOCABULARY
    )
    config = SFTConfig(
        **arguments,
        max_length=None,  # the rows are cut to measure already, and TRL would cut in silence
        activation_checkpointing=on_cuda and not is_sharded(task),  # FSDP does it itself
    )
    if is_sharded(task):
        shard_on_cpu_too()
    blank = [_blank(base.tokenizer.pad_token_id)] if task.place.count > 1 else []
    trainer: Any = sharing(trainer_class, task.place, has_blank=bool(blank))(
        model=base.model,
        args=config,
        train_dataset=Dataset.from_list(data.rows + blank),  # in memory: nothing is cached on disk
        eval_dataset=Dataset.from_list(held_out.rows) if held_out else None,
        processing_class=base.tokenizer,
        peft_config=adapters(spec, base.model) if spec.method in ADAPTERS else None,
        callbacks=list(callbacks),
    )
    if spec.method in ADAPTERS:
        compute_lean(trainer.model)
    if spec.method == "qlora":  # TRL rounds them to bfloat16, which loses small updates
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.float32)
    if spec.config.packing and len(data.rows) > 1:
        knows_rows = attend_within_rows(base.model) or "flash" in str(base.model.config._attn_implementation)
        packer = Packer(base.tokenizer.pad_token_id, one_line=knows_rows)
        if isolates(trainer.model, packer, data.rows):
            trainer.data_collator = packer
        else:
            task.reporter.event(
                "This model does not keep packed rows apart, so they are padded instead.", level="warning"
            )
    return trainer  # type: ignore[no-any-return]  # a class made at run time


def _blank(pad_token_id: int) -> dict[str, list[int]]:
    """A row that teaches nothing, for a rank that has no other in a step."""
    return {"input_ids": [pad_token_id] * 2, "labels": [IGNORED] * 2}


def _trainer_class(*, small_vocabulary: bool) -> type[SFTTrainer]:
    """TRL's trainer, at home with packed batches."""
    # The classes are made here because their base is known only once trl is imported.
    from trl.trainer.sft_trainer import SFTTrainer

    class SupervisedTrainer(SFTTrainer):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._padding_collator = self.data_collator

        def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
            # Padded: the loss of a batch is weighed by its lines, and a line is one row there.
            packing, self.data_collator = self.data_collator, self._padding_collator
            try:
                loader: DataLoader[Any] = super().get_eval_dataloader(eval_dataset)
            finally:
                self.data_collator = packing
            return loader

        def _track_num_input_tokens(self, inputs: dict[str, torch.Tensor]) -> None:
            packed = "position_ids" in inputs
            tokens = real_tokens(inputs["position_ids"]) if packed else inputs["attention_mask"].sum()
            teaches = (inputs["labels"] != IGNORED).any()  # only a blank row does not
            self.state.num_input_tokens_seen += int(self.accelerator.gather(tokens * teaches).sum())

    return _with_a_plain_loss(SupervisedTrainer) if small_vocabulary else SupervisedTrainer


def _with_a_plain_loss(trainer: type[SFTTrainer]) -> type[SFTTrainer]:
    """The trainer with a plainer loss: the same number in half the time on a CPU.

    TRL's own never holds the logits of a large vocabulary, and pays for that by scoring every position
    twice, prompts included. With a small vocabulary there is nothing to save.
    """
    from torch.nn.functional import cross_entropy

    class SmallVocabularyTrainer(trainer):  # type: ignore[valid-type, misc]  # a class made at run time
        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: dict[str, torch.Tensor],
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> torch.Tensor:
            known = {name: value for name, value in inputs.items() if name != "labels"}
            learned = inputs["labels"][:, 1:] != IGNORED
            before = learned.any(dim=0).nonzero()[:, 0]  # positions that foretell an answer in some line
            logits = model(**known, logits_to_keep=before, use_cache=False).logits
            targets = inputs["labels"][:, 1 + before]
            total = cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            # Gradients of several ranks are averaged, and the items are those of all of them.
            items = (
                None if num_items_in_batch is None else num_items_in_batch / self.accelerator.num_processes
            )
            return total / (learned.sum() if items is None else items)

    return SmallVocabularyTrainer
