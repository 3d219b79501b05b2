"""From rows to a saved model. Runs only in a trainer process that has claimed its job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from modal_app import artifact, hardware
from modal_app.base import Loaded, load, template_fingerprint
from modal_app.checkpoints import latest_whole
from modal_app.data import TrainingRows, read_messages, tokenise
from modal_app.progress import training_callback
from modal_app.session.directory import RunDirectory
from modal_app.session.failures import RunFailed
from modal_app.session.reporter import Reporter
from modal_app.session.stop import StopSignal
from modal_app.sft import build_trainer, total_steps
from shared.datasets.loss_mask import limit_tokens
from shared.training.spec import RunResult, RunSpec, RunState

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl.trainer.sft_trainer import SFTTrainer

_ROWS_NAMED = 20  # in a message for people; the data of the event holds more
_ROWS_LISTED = 1_000


def run(
    spec: RunSpec, dataset: Path, directory: RunDirectory, reporter: Reporter, stop: StopSignal
) -> RunResult:
    """The completed run. Raises Stopped with a checkpoint saved, and RunFailed."""
    _import_libraries()
    stop.check()
    reporter.say("Loading model")
    base = load(spec.base_model, spec.base_revision, dtype=hardware.weights_dtype(spec.method))
    stop.check()
    reporter.say("Preparing data")
    data = _rows(spec, dataset, base, reporter)
    fingerprint = spec.fingerprint()
    checkpoint = latest_whole(directory.checkpoints, fingerprint)
    callback = training_callback(reporter, stop, fingerprint)
    trainer = build_trainer(spec, base, data, directory.checkpoints, callback)
    stop.check()
    _announce(spec, data, checkpoint, reporter)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < trainer.state.max_steps:
        stop.check()
    reporter.say("Saving model")
    model = cast("PreTrainedModel", trainer.model)
    size_bytes = artifact.save(directory, model, base.tokenizer)
    reporter.say("Completed", progress_percent=100)
    return _result(spec, directory, trainer, base, data, size_bytes)


def _import_libraries() -> None:
    """The seconds that importing takes are spent here, where a stop is noticed before and after."""
    import transformers.utils.logging as transformers_logging
    import trl.trainer.sft_trainer  # noqa: F401 - imported for its side effect, being imported

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _rows(spec: RunSpec, dataset: Path, base: Loaded, reporter: Reporter) -> TrainingRows:
    limit = limit_tokens(spec.config.max_length, base.context_length_tokens)
    data = tokenise(read_messages(dataset), base.tokenizer, max_length_tokens=limit, stop_ids=base.stop_ids)
    if not base.has_own_template:
        reporter.event("The base model has no chat template; a plain one is used and saved with the model.")
    if data.shifted:
        _warn_of_rows(
            reporter, data.shifted, "are rendered differently with their answer; less of the prompt is seen"
        )
    if data.too_long:
        _warn_of_rows(reporter, data.too_long, f"are over {limit} tokens and were left out")
    if not data.rows:
        raise RunFailed(
            "nothing_to_train", f"No row is left to train on: all are over {limit} tokens. Raise max_length."
        )
    return data


def _warn_of_rows(reporter: Reporter, numbers: list[int], what: str) -> None:
    named = ", ".join(map(str, numbers[:_ROWS_NAMED])) + (", ..." if len(numbers) > _ROWS_NAMED else "")
    reporter.event(
        f"{len(numbers)} rows {what}: {named}.",
        level="warning",
        row_count=len(numbers),
        row_numbers=numbers[:_ROWS_LISTED],
    )


def _announce(spec: RunSpec, data: TrainingRows, checkpoint: Path | None, reporter: Reporter) -> None:
    steps = total_steps(spec, data)
    if checkpoint is None:
        reporter.event(f"Training started: {len(data.rows)} rows, {steps} steps.", steps=steps)
    else:
        step = int(checkpoint.name.rpartition("-")[2])
        reporter.event(f"Training goes on from step {step} of {steps}.", step=step, steps=steps)


def _result(
    spec: RunSpec,
    directory: RunDirectory,
    trainer: SFTTrainer,
    base: Loaded,
    data: TrainingRows,
    size_bytes: int,
) -> RunResult:
    state = trainer.state
    losses = [logs["loss"] for logs in state.log_history if "loss" in logs]
    metrics: dict[str, Any] = {
        "first_loss": losses[0],
        "steps": state.global_step,
        "training_examples": len(data.rows),
        "rows_too_long": len(data.too_long),
    }
    return RunResult(
        state=RunState.COMPLETED,
        artifact_path=str(directory.artifact),
        artifact_bytes=size_bytes,
        template_fingerprint=template_fingerprint(base.tokenizer),
        training_loss=losses[-1],
        trained_tokens=int(state.num_input_tokens_seen),
        metrics=metrics,
        recipe={
            **hardware.describe(),
            "base_model": spec.base_model,
            "base_revision": spec.base_revision,
            "method": spec.method,
            "config": spec.config.model_dump(mode="json"),
            "dataset_sha256": spec.dataset.sha256,
            "spec_fingerprint": spec.fingerprint(),
        },
    )
