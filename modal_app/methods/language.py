"""Language models: their rows, the trainer of their method, and the model that is left at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from modal_app import artifact, hardware
from modal_app.base import Loaded, load, template_fingerprint
from modal_app.methods import preference, sft
from modal_app.methods.arguments import LEAST_ROWS_AT_ONCE, is_sharded, total_steps
from modal_app.methods.data import TrainingRows, tokenised_file
from modal_app.session.failures import RunFailed
from modal_app.task import Task
from shared.datasets.loss_mask import limit_tokens
from shared.training.config import PREFERENCE
from shared.training.micro_batch import fewer_rows_at_once, rows_at_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, Trainer, TrainerCallback


class LanguageLearner:
    """A causal language model with its rows; `task.Learner` for every method but embedding."""

    def __init__(self, task: Task) -> None:
        """The model is loaded and the rows are token ids. Raises RunFailed and Stopped."""
        task.reporter.say("Loading model")
        self._task = task
        self._base: Loaded = self._load()
        task.stop.check()
        task.reporter.say("Preparing data")
        if not self._base.has_own_template:
            task.reporter.event(
                "The base model has no chat template; a plain one is used and saved with the model."
            )
        self._data = self._rows(task.dataset, "rows")
        if not self._data.rows:
            limit = self._limit_tokens
            raise RunFailed(
                "nothing_to_train",
                f"No row is left to train on: all are over {limit} tokens or teach nothing."
                " Raise max_length.",
            )
        held_out = self._rows(task.validation, "validation rows") if task.validation else None
        self._held_out = held_out if held_out and held_out.rows else None
        self._trainer: Trainer | None = None
        self._whole: dict[str, Any] | None = None

    @property
    def example_count(self) -> int:
        return len(self._data.rows)

    @property
    def too_long_count(self) -> int:
        return len(self._data.too_long)

    @property
    def rows_at_once(self) -> int:
        return rows_at_once(
            self._rank_rows,
            self.longest_row_tokens,
            least=self._least_rows,
            most=self._task.most_rows_at_once,
        )

    @property
    def fewer_rows_at_once(self) -> int | None:
        return fewer_rows_at_once(self._rank_rows, self.rows_at_once, least=self._least_rows)

    @property
    def longest_row_tokens(self) -> int:
        return self._data.longest_tokens

    @property
    def model_bytes(self) -> int:
        return hardware.weights_bytes(self._base.model)

    @property
    def total_steps(self) -> int:
        return total_steps(self._task.spec, self.example_count)

    @property
    def looks_at_held_out_rows(self) -> bool:
        return self._held_out is not None

    def trainer(self, callbacks: Sequence[TrainerCallback]) -> Trainer:
        """The trainer of the method."""
        self._trainer = self._build(callbacks)
        return self._trainer

    def gather(self) -> None:
        """Weights that are sharded are put together in the memory of rank 0."""
        assert self._trainer is not None
        if is_sharded(self._task):
            accelerator, model = self._trainer.accelerator, cast("PreTrainedModel", self._trainer.model)
            weights = accelerator.get_state_dict(model)
            self._whole = {name: weights[name] for name in weights if name not in model.all_tied_weights_keys}

    def save(self) -> int:
        """`artifact/` is a whole model with its tokenizer afterwards."""
        assert self._trainer is not None
        model = cast("PreTrainedModel", self._trainer.model)
        return artifact.save(
            self._task.directory, model, self._base.tokenizer, self._task.spec, weights=self._whole
        )

    def template_fingerprint(self) -> str | None:
        """Of the template that the rows were rendered with."""
        return template_fingerprint(self._base.tokenizer)

    def metrics(self) -> dict[str, Any]:
        """Margins and accuracies of the preference methods."""
        assert self._trainer is not None
        return preference.metrics(self._trainer.state.log_history)

    @property
    def _rank_rows(self) -> int:
        """Rows of a step for one rank."""
        assert self._task.spec.config.batch_size
        return self._task.spec.config.batch_size // self._task.place.count

    @property
    def _least_rows(self) -> int:
        return LEAST_ROWS_AT_ONCE.get(self._task.spec.method, 1)

    @property
    def _limit_tokens(self) -> int:
        return limit_tokens(self._task.spec.config.max_length, self._base.context_length_tokens)

    def _load(self) -> Loaded:
        spec = self._task.spec
        return load(
            self._task.base_source,
            spec.base_revision,
            dtype=hardware.weights_dtype(spec.method),
            quantised=spec.method == "qlora",
        )

    def _build(self, callbacks: Sequence[TrainerCallback]) -> Trainer:
        build = preference.build_trainer if self._task.spec.method in PREFERENCE else sft.build_trainer
        return build(
            self._task, self._base, self._data, self._held_out, callbacks, rows_at_once=self.rows_at_once
        )

    def _rows(self, file: Path, name: str) -> TrainingRows:
        """The rows of a file as token ids; the history of the job names those that are left out."""
        limit = self._limit_tokens
        data = tokenised_file(
            self._task.spec.method, file, self._base.tokenizer, limit=limit, stop_ids=self._base.stop_ids
        )
        self._task.warn_of_rows(
            data.shifted, f"{name} are rendered differently with their answer; less of the prompt is seen"
        )
        self._task.warn_of_rows(data.too_long, f"{name} are over {limit} tokens and were left out")
        self._task.warn_of_rows(data.teach_nothing, f"{name} teach nothing and were left out")
        return data
