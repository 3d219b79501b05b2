"""From rows to a saved model. Runs only in a trainer process that has claimed its job."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.checkpoints import latest_whole
from modal_app.engines.choice import learner_of, require_engine
from modal_app.pinned import pinned
from modal_app.progress import training_callback
from modal_app.ranks.leader import led
from modal_app.ranks.place import Place
from modal_app.session.failures import RunFailed, is_out_of_memory
from modal_app.shortage import Shortage, give_back
from modal_app.task import Learner, Task
from shared import log as logs
from shared.training.config import Method
from shared.training.gpu_count import unshared
from shared.training.recipe import Recipe
from shared.training.spec import RunResult, RunState

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

log = logs.logger("trainer")


def run(task: Task) -> RunResult:
    """The completed run. Raises Stopped with a checkpoint saved, and RunFailed.

    What runs out of memory is tried once more, from its last checkpoint, with at most half as many rows at
    once. Batches stay as they are, so the model learns the same.
    """
    if reason := unshared(task.spec.config, task.spec.method, task.spec.gpu_count):
        raise RunFailed("batch_not_shared", reason)
    require_engine(task.spec.config.engine)
    _import_libraries(task.spec.method)
    task.stop.check()
    task = replace(pinned(task), place=Place(0, task.spec.gpu_count))
    outcome = _attempt(task)
    if isinstance(outcome, RunResult):
        return outcome
    if outcome.fewer_rows_at_once is None:
        raise outcome.failed()
    give_back()
    task.reporter.event(
        f"{outcome.told()}. Trying again with {outcome.fewer_rows_at_once} rows at once.",
        level="warning",
        **outcome.numbers(),
    )
    again = _attempt(replace(task, most_rows_at_once=outcome.fewer_rows_at_once))
    if isinstance(again, RunResult):
        return again.model_copy(update={"metrics": again.metrics | {"out_of_memory": outcome.numbers()}})
    raise again.failed()


def _attempt(task: Task) -> RunResult | Shortage:
    """A Shortage when the memory did not suffice; everything that the attempt held may be freed then."""
    learner: Learner | None = None
    try:
        checkpoint = _checkpoint(task)
        with led(task, checkpoint) as leader:
            learner = loaded(task)
            if leader:
                leader.meet()
            trainer = trained(task, learner, checkpoint)
            if leader:
                leader.finished()
            return _saved(task, learner, trainer)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        log.warning("out_of_memory", error=str(error)[:500])
        # Returned and not raised: an error on its way holds the frames of the failed step, and its tensors.
        return Shortage.of(learner)


def loaded(task: Task) -> Learner:
    """The model with its rows. Every rank calls this, and then `trained`. Raises RunFailed and Stopped."""
    require_engine(task.spec.config.engine)
    _import_libraries(task.spec.method)
    learner = learner_of(task)
    task.stop.check()
    # All is loaded. peft would ask the Hub about the base model at each checkpoint, to see whether its
    # vocabulary was changed, and wait for it when it does not answer; nothing here changes one.
    os.environ["HF_HUB_OFFLINE"] = "1"
    return learner


def trained(task: Task, learner: Learner, checkpoint: Path | None) -> Trainer:
    """The trainer after its last step, rank 0 having all weights. Raises Stopped with a checkpoint saved."""
    trainer = learner.trainer([_callback(task, learner)])
    _print_nothing(trainer)
    task.stop.check()
    _announce(learner, checkpoint, task)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        task.stop.check()  # or the validation loss fell no further
    if learner.looks_at_held_out_rows and trainer.state.global_step not in _looks(trainer):
        trainer.evaluate()
    learner.gather()
    return trainer


def _saved(task: Task, learner: Learner, trainer: Trainer) -> RunResult:
    task.reporter.say("Saving model")
    size_bytes = learner.save()
    task.directory.kept()
    return _result(task, learner, trainer, size_bytes)


def _import_libraries(method: Method) -> None:
    """The seconds that importing takes are spent here, where a stop is noticed before and after."""
    import transformers.utils.logging as transformers_logging

    if method == "qlora":
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it misses kernels that are no part of it
    else:  # peft would import it, which takes a second
        sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]  # None: there is none
    if method == "embedding":
        import sentence_transformers  # noqa: F401 - imported for its side effect, being imported
    else:
        import trl.trainer.sft_trainer  # noqa: F401 - as above
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _callback(task: Task, learner: Learner) -> TrainerCallback:
    patience = task.spec.config.early_stopping_patience
    if patience and not learner.looks_at_held_out_rows:
        raise RunFailed(
            "validation_missing",
            "early_stopping_patience needs rows that are held out. Split the dataset, or set it to 0.",
        )
    return training_callback(
        task.reporter,
        task.stop,
        task.spec.fingerprint(),
        patience=patience,
        kept=task.directory.kept,
        place=task.place,
    )


def _print_nothing(trainer: Trainer) -> None:
    from transformers import PrinterCallback, ProgressCallback

    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)


def _checkpoint(task: Task) -> Path | None:
    """What to go on from; the history of the job names what could not be."""
    checkpoint, damaged = latest_whole(task.directory.checkpoints, task.spec.fingerprint())
    for step, file in damaged:
        task.reporter.event(
            f"The checkpoint of step {step} is damaged and was passed over: {file} is not as it was saved.",
            level="warning",
            step=step,
            file=file,
        )
    return checkpoint


def _announce(learner: Learner, checkpoint: Path | None, task: Task) -> None:
    steps = learner.total_steps
    if checkpoint is None:
        task.reporter.event(f"Training started: {learner.example_count} rows, {steps} steps.", steps=steps)
    else:
        step = int(checkpoint.name.rpartition("-")[2])
        task.reporter.event(f"Training goes on from step {step} of {steps}.", step=step, steps=steps)


def _looks(trainer: Trainer) -> dict[int, float]:
    """The validation loss at each step where it was taken."""
    return {int(logs["step"]): logs["eval_loss"] for logs in trainer.state.log_history if "eval_loss" in logs}


def _result(task: Task, learner: Learner, trainer: Trainer, size_bytes: int) -> RunResult:
    spec, state = task.spec, trainer.state
    losses = [logs["loss"] for logs in state.log_history if "loss" in logs]
    looks = list(_looks(trainer).values())
    metrics: dict[str, Any] = {
        "first_loss": losses[0],
        "steps": state.global_step,
        "training_examples": learner.example_count,
        "rows_too_long": learner.too_long_count,
        **learner.metrics(),
    }
    if looks:
        kept = min(looks) if spec.config.early_stopping_patience else looks[-1]
        metrics |= {"first_validation_loss": looks[0], "validation_loss": kept}
        metrics["stopped_early"] = state.global_step < state.max_steps
    return RunResult(
        state=RunState.COMPLETED,
        artifact_path=str(task.directory.artifact),
        artifact_bytes=size_bytes,
        template_fingerprint=learner.template_fingerprint(),
        training_loss=losses[-1],
        trained_tokens=int(state.num_input_tokens_seen),
        metrics=metrics,
        recipe=Recipe(
            **hardware.describe(spec.method, spec.config.engine),
            base_model=spec.base_model,
            base_revision=spec.base_revision,
            base_sha256=task.base_sha256,
            root_base_model=spec.parent.root_base_model if spec.parent else None,
            method=spec.method,
            config=spec.config,
            dataset_sha256=spec.dataset.sha256,
            validation_sha256=spec.validation.sha256 if spec.validation else None,
            template_fingerprint=learner.template_fingerprint(),
            spec_fingerprint=spec.fingerprint(),
            rows_at_once=learner.rows_at_once,
            gpu_count=spec.gpu_count,
        ).model_dump(mode="json"),
    )
