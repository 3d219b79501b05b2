"""What every method tells the training loop of transformers, and how large its batches are."""

from __future__ import annotations

import math
from typing import Any

from modal_app import hardware
from modal_app.task import Task
from shared.training.config import Method
from shared.training.spec import RunSpec

LEAST_ROWS_AT_ONCE: dict[Method, int] = {"kto": 2}  # TRL asks for it; of the others 1
_LOGGED_STEPS = 1_000  # at most about so many loss values are kept in the trainer's state


def loop_arguments(task: Task, *, rows_at_once: int, example_count: int, held_out: bool) -> dict[str, Any]:
    """Arguments that TRL's and sentence-transformers' trainers share. held_out: there are validation rows."""
    config, device = task.spec.config, hardware.device()
    assert config.batch_size
    assert config.learning_rate
    assert config.lr_scheduler
    assert config.save_steps
    assert config.eval_steps
    steps = total_steps(task.spec, example_count)
    arguments: dict[str, Any] = {
        "output_dir": str(task.directory.checkpoints),
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": rows_at_once,
        "gradient_accumulation_steps": config.batch_size // (rows_at_once * task.place.count),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": round((config.warmup_ratio or 0) * steps),
        "weight_decay": config.weight_decay,
        "seed": config.seed,
        "bf16": device == "cuda",
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device == "cuda",
        "logging_steps": max(1, steps // _LOGGED_STEPS),
        "logging_nan_inf_filter": False,  # it would replace a NaN by an average
        "include_num_input_tokens_seen": "non_padding",
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": 2,  # the one before is still whole while the next is written
        "report_to": "none",
        "disable_tqdm": True,
    }
    if task.place.count > 1:
        arguments |= {
            "ddp_find_unused_parameters": False,  # every one is used, and looking for others takes time
        }
    if is_sharded(task):
        arguments |= {
            "fsdp": True,
            "fsdp_config": {"version": 2, "activation_checkpointing": device == "cuda"},
        }
    if held_out:
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": config.eval_steps,
            "per_device_eval_batch_size": rows_at_once,
            "prediction_loss_only": True,
        }
    if held_out and config.early_stopping_patience:
        arguments |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
            "save_steps": config.eval_steps,  # the best weights must be among those that were saved
            "save_total_limit": 3,  # the best one as well
        }
    return arguments


def is_sharded(task: Task) -> bool:
    """Whether each rank holds a part of the weights (FSDP, Zhao et al. 2023), and not all of them (DDP).

    Where all of them are trained, they are a quarter of what lies in memory for each; adapters are small.
    """
    return task.place.count > 1 and task.spec.method == "full"


def total_steps(spec: RunSpec, example_count: int) -> int:
    """Optimiser steps of the whole run. The last batch of an epoch may be smaller."""
    assert spec.config.batch_size is not None
    return math.ceil(example_count / spec.config.batch_size) * spec.config.epochs
