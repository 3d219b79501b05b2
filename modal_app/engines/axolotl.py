"""Axolotl: its config made of ours, its model and its trainer, with our rows, mask and callbacks.

Written by the source of axolotl 0.19.0 and never run: it needs a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from modal_app.base import Loaded, completed, refusing, source_of
from modal_app.methods.arguments import loop_arguments
from modal_app.methods.language import LanguageLearner
from shared.training.config import ADAPTERS
from shared.training.micro_batch import rows_at_once

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Trainer, TrainerCallback

    from shared.training.spec import RunSpec

# Arguments of the loop that Axolotl's config has under another name, or does not have.
_RENAMED = {
    "lr_scheduler_type": "lr_scheduler",
    "num_train_epochs": "num_epochs",
    "per_device_train_batch_size": "micro_batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
}
_SET_LATER = frozenset({"logging_nan_inf_filter", "include_num_input_tokens_seen", "prediction_loss_only"})
_KNOWN_LATE = frozenset(
    {
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "warmup_steps",
        "logging_steps",
    }
)
_ITS_OWN = frozenset({"use_cpu", "report_to", "disable_tqdm"})  # it chooses these itself


def axolotl_config(spec: RunSpec, source: str, run_dir: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """What Axolotl would read from its YAML. arguments: those of `loop_arguments`.

    The files of rows must be named and are not read: the trainer gets the rows as token ids.
    """
    loop = {
        _RENAMED.get(name, name): value
        for name, value in arguments.items()
        if name not in _SET_LATER | _ITS_OWN
    }
    return (
        loop
        | {
            "base_model": source,
            "revision_of_model": spec.base_revision,
            "trust_remote_code": False,
            "sequence_len": spec.config.max_length,
            "sample_packing": False,  # it would put other rows into a step
            "gradient_checkpointing": True,
            "optimizer": "adamw_torch_fused",
            "datasets": [{"path": str(run_dir / spec.dataset.name), "ds_type": "json"}],
            "val_set_size": 0,
        }
        | _held_out(spec, run_dir)
        | _adapters(spec)
    )


def _held_out(spec: RunSpec, run_dir: Path) -> dict[str, Any]:
    if spec.validation is None:
        return {}
    return {"test_datasets": [{"path": str(run_dir / spec.validation.name), "ds_type": "json"}]}


def _adapters(spec: RunSpec) -> dict[str, Any]:
    if spec.method not in ADAPTERS:
        return {}
    wanted = spec.config.target_modules
    where = {"lora_target_linear": True} if isinstance(wanted, str) else {"lora_target_modules": list(wanted)}
    return where | {
        "adapter": spec.method,
        "load_in_4bit": spec.method == "qlora",
        "lora_r": spec.config.lora_r,
        "lora_alpha": spec.config.lora_alpha,
        "lora_dropout": spec.config.lora_dropout,
    }


class AxolotlLearner(LanguageLearner):
    """A run with the engine axolotl. Rows are padded: `packing` changes nothing."""

    def _load(self) -> Loaded:
        from axolotl.cli.config import load_cfg
        from axolotl.train import setup_model_and_tokenizer
        from axolotl.utils.dict import DictDefault

        spec = self._task.spec
        source, _ = source_of(self._task.base_source, spec.base_revision)
        arguments = self._arguments(rows=1, longest_tokens=1)  # the right ones follow when rows are counted
        config = axolotl_config(spec, source, self._task.directory.path, arguments)
        with refusing(spec.base_model, "a model that Axolotl knows"):
            self._cfg = load_cfg(DictDefault(config))
            model, tokenizer, self._peft_config, _ = setup_model_and_tokenizer(self._cfg)
        return Loaded(model, tokenizer, has_own_template=completed(tokenizer))

    def _build(self, callbacks: Sequence[TrainerCallback]) -> Trainer:
        from axolotl.utils.trainer import setup_trainer
        from datasets import Dataset

        known = self._arguments(rows=len(self._data.rows), longest_tokens=self._data.longest_tokens)
        for name in _KNOWN_LATE & known.keys():
            self._cfg[_RENAMED.get(name, name)] = known[name]
        trainer: Trainer = setup_trainer(
            cfg=self._cfg,
            train_dataset=_dataset(Dataset, self._data.rows),
            eval_dataset=_dataset(Dataset, self._held_out.rows) if self._held_out else None,
            model=self._base.model,
            tokenizer=self._base.tokenizer,
            processor=None,
            total_num_steps=self.total_steps,
            peft_config=self._peft_config,
        )
        for name in _SET_LATER & known.keys():
            setattr(trainer.args, name, known[name])
        trainer.args.eval_on_start = False
        for callback in callbacks:
            trainer.add_callback(callback)
        return trainer

    def _arguments(self, *, rows: int, longest_tokens: int) -> dict[str, Any]:
        batch_size = self._task.spec.config.batch_size
        assert batch_size
        return loop_arguments(
            self._task,
            rows_at_once=rows_at_once(batch_size, longest_tokens, most=self._task.most_rows_at_once),
            example_count=rows,
            held_out=self._task.validation is not None,
        )


def _dataset(kind: Any, rows: list[dict[str, Any]]) -> Any:
    """With the mask that Axolotl's collator expects beside ids and labels."""
    return kind.from_list([row | {"attention_mask": [1] * len(row["input_ids"])} for row in rows])
