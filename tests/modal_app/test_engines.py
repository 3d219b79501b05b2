"""Unsloth and Axolotl: what is made of our config, that they need a GPU, and that all else stays ours.

Neither can run here. Their places are taken by stand-ins with the same functions (standins/), so that what is
tried out is our side: arguments that exist, the same rows, events, checkpoints, resume and model.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from importlib import import_module
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from modal_app import loop, run
from modal_app.engines.axolotl import axolotl_config
from modal_app.engines.unsloth import adapter_arguments, load_arguments
from shared.training.spec import RunState, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.trainers import Trainer

NewRun = Callable[..., Path]
ENGINES = ["unsloth", "axolotl"]
# Parameters of FastLanguageModel, in unsloth/models/loader.py and llama.py of unsloth 2026.10.9.
LOAD = {
    "model_name", "max_seq_length", "dtype", "load_in_4bit", "load_in_8bit", "load_in_16bit",
    "full_finetuning", "token", "device_map", "trust_remote_code", "use_gradient_checkpointing", "revision",
    "use_exact_model_name", "fast_inference", "random_state", "max_lora_rank", "text_only",
}  # fmt: skip
ADAPT = {
    "r", "target_modules", "lora_alpha", "lora_dropout", "bias", "use_gradient_checkpointing", "random_state",
    "max_seq_length", "use_rslora", "modules_to_save", "init_lora_weights", "loftq_config",
}  # fmt: skip
# Fields of AxolotlInputConfig, in axolotl/utils/schemas of axolotl 0.19.0.
AXOLOTL = {
    "adapter", "base_model", "bf16", "dataloader_pin_memory", "datasets", "eval_batch_size", "eval_steps",
    "eval_strategy", "gradient_accumulation_steps", "gradient_checkpointing", "greater_is_better",
    "learning_rate", "load_best_model_at_end", "load_in_4bit", "logging_steps", "lora_alpha", "lora_dropout",
    "lora_r", "lora_target_linear", "lora_target_modules", "lr_scheduler", "metric_for_best_model",
    "micro_batch_size", "num_epochs", "optimizer", "output_dir", "revision_of_model", "sample_packing",
    "save_steps", "save_strategy", "save_total_limit", "seed", "sequence_len", "test_datasets",
    "trust_remote_code", "val_set_size", "warmup_steps", "weight_decay",
}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "kind"), [("full", "full_finetuning"), ("lora", "load_in_16bit"), ("qlora", "load_in_4bit")]
)
def test_unsloth_gets_arguments_that_it_has(new_run: NewRun, method: str, kind: str) -> None:
    spec = trainers.spec(new_run(trainers.facts(2), method=method, target_modules=("q_proj",), lora_r=8))
    load, adapt = load_arguments(spec, "/base"), adapter_arguments(spec)
    assert load.keys() <= LOAD
    assert adapt.keys() <= ADAPT
    kinds = ("full_finetuning", "load_in_16bit", "load_in_4bit")
    assert [name for name in kinds if load[name]] == [kind]
    assert (load["model_name"], load["max_seq_length"]) == ("/base", 1024)
    assert (adapt["r"], adapt["target_modules"]) == (8, ["q_proj"])


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_axolotl_gets_a_config_of_its_own_fields(new_run: NewRun, method: str, held_out: bool) -> None:
    rows = trainers.supervised_rows(trainers.facts(2))
    run_dir = new_run(
        trainers.facts(4), method=method, validation=rows if held_out else None, batch_size=4, lora_r=8
    )
    spec = trainers.spec(run_dir)
    loop_arguments = {
        "num_train_epochs": 3, "lr_scheduler_type": "cosine", "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "use_cpu": False, "report_to": "none", "disable_tqdm": True,
        "logging_nan_inf_filter": False, "include_num_input_tokens_seen": "non_padding",
    }  # fmt: skip
    config = axolotl_config(spec, "/base", run_dir, loop_arguments)
    assert config.keys() <= AXOLOTL
    assert (config["base_model"], config["sequence_len"], config["num_epochs"]) == ("/base", 1024, 3)
    assert config["micro_batch_size"] * config["gradient_accumulation_steps"] == 4
    assert config["trust_remote_code"] is config["sample_packing"] is False
    assert ("test_datasets" in config) == held_out
    assert config.get("adapter") == (None if method == "full" else method)
    assert bool(config.get("load_in_4bit")) == (method == "qlora")
    assert config.get("lora_r") == (None if method == "full" else 8)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_gpu_it_says_so_and_what_to_do(
    new_run: NewRun, start: Callable[[Path], Trainer], engine: str
) -> None:
    run_dir = new_run(trainers.facts(8), engine=engine)
    assert start(run_dir).wait() == TrainerExit.FAILED
    error = trainers.result(run_dir).error
    assert error
    assert error.code == "engine_needs_gpu"
    assert engine.capitalize() in error.message
    assert "modal" in error.message
    assert not (run_dir / "checkpoints").exists()


def with_stand_in(run_dir: str, engine: str) -> None:
    """The trainer's process, as if the engine were installed and could run here."""
    sys.path.insert(0, str(Path(__file__).with_name("standins")))
    loop.require_engine = lambda name: import_module("axolotl.train" if name == "axolotl" else name)
    run.main([run_dir])


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_events_and_model_are_as_with_trl(
    new_run: NewRun, libraries: ForkServerContext, engine: str
) -> None:
    rows = trainers.supervised_rows(trainers.facts(2))
    taught = trainers.supervised_rows(trainers.facts(14))
    for first, second in ((0, 1), (1, 1)):  # an answer that is only read, and two that are learned in one row
        asked, told, asked_more, told_more = taught.pop(0)["messages"] + taught.pop(0)["messages"]
        talk = [asked, told | {"weight": first}, asked_more, told_more | {"weight": second}]
        taught.append({"messages": talk})
    results, kinds = {}, {}
    for name in (engine, "trl"):
        run_dir = new_run(taught, engine=name, epochs=3, validation=rows, packing=False, save_steps=4)
        process = libraries.Process(target=with_stand_in, args=(str(run_dir), name))
        process.start()
        assert Trainer(run_dir, process).wait() == TrainerExit.COMPLETED, trainers.result(run_dir)
        results[name] = trainers.result(run_dir)
        kinds[name] = [report.message for report in trainers.reports(run_dir) if report.kind == "event"]
        assert (run_dir / "artifact" / "model.safetensors").exists()
    ours, theirs = results["trl"], results[engine]
    assert theirs.state == RunState.COMPLETED
    assert kinds[engine] == kinds["trl"]
    for measure in ("steps", "training_examples", "rows_too_long"):
        assert theirs.metrics[measure] == ours.metrics[measure]
    assert theirs.trained_tokens == ours.trained_tokens
    assert theirs.template_fingerprint == ours.template_fingerprint
    assert theirs.metrics["first_loss"] == pytest.approx(ours.metrics["first_loss"], rel=1e-3)
    assert theirs.metrics["validation_loss"] == pytest.approx(ours.metrics["validation_loss"], rel=0.05)
    assert engine in theirs.recipe["libraries"]


@pytest.mark.parametrize("engine", ENGINES)
def test_it_goes_on_at_its_last_checkpoint(
    new_run: NewRun, libraries: ForkServerContext, engine: str
) -> None:
    def trainer(run_dir: Path) -> Trainer:
        process = libraries.Process(target=with_stand_in, args=(str(run_dir), engine))
        process.start()
        return Trainer(run_dir, process)

    run_dir = new_run(trainers.facts(24), engine=engine, method="lora", epochs=8, save_steps=3)
    first = trainer(run_dir)
    first.wait_for_checkpoint()
    first.signal(signal.SIGTERM)
    assert first.wait() == TrainerExit.INTERRUPTED
    assert trainer(run_dir).wait() == TrainerExit.COMPLETED
    said = [report.message or "" for report in trainers.reports(run_dir)]
    assert any(message.startswith("Training goes on from step") for message in said)
    assert (run_dir / "adapter" / "adapter_model.safetensors").exists()
