"""What the training loop does at each step: say how far it is, stop when told to, seal its checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.checkpoints import seal
from modal_app.ranks.place import ALONE, Place
from modal_app.session.failures import RunFailed
from modal_app.session.stop import StopSignal
from modal_app.task import Voice
from shared.training.spec import Progress

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SAVED_PERCENT = 99.0  # of a run whose last step is done; 100 is for a model that is saved


class Session:
    """The steps of this process. Speed and time left come from them alone, not from an earlier process."""

    def __init__(self, state: TrainerState) -> None:
        self._started = time.monotonic()
        self._first_step = state.global_step
        self._first_tokens = int(state.num_input_tokens_seen)

    def progress(self, state: TrainerState, total_epochs: int, numbers: dict[str, float]) -> Progress:
        """The state of the loop as the job row shows it. `numbers` are those last logged."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        steps = state.global_step - self._first_step
        tokens = int(state.num_input_tokens_seen)
        return Progress(
            progress_percent=min(SAVED_PERCENT, 100 * state.global_step / state.max_steps),
            current_step=f"Training... ({tokens} tokens trained)",
            epoch=state.epoch,
            total_epochs=total_epochs,
            step=state.global_step,
            total_steps=state.max_steps,
            training_loss=numbers.get("loss"),
            validation_loss=numbers.get("eval_loss"),
            learning_rate=numbers.get("learning_rate"),
            grad_norm=numbers.get("grad_norm"),
            trained_tokens=tokens,
            tokens_per_second=(tokens - self._first_tokens) / seconds if steps else None,
            gpu_memory_bytes=hardware.gpu_memory_bytes(),
            eta_seconds=(state.max_steps - state.global_step) * seconds / steps if steps else None,
        )


def training_callback(
    reporter: Voice,
    stop: StopSignal,
    fingerprint: str,
    *,
    patience: int = 0,
    kept: Callable[[], None] = lambda: None,
    place: Place = ALONE,
) -> TrainerCallback:
    """The callback for one call of `train`.

    patience: after so many looks in a row without a lower validation loss the training ends; 0: never.
    kept: called when a checkpoint is whole.
    """
    # The class is made here because its base is known only once transformers is imported.
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        session: Session
        numbers: dict[str, float]

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            self.session, self.numbers = Session(state), _last_numbers(state)
            self._say(args, state)

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            reason = place.agreed(stop.reason)
            if reason is not None:
                stop.request(reason)  # so that every rank knows it
                control.should_save = control.should_training_stop = True
            elif falls_no_more(state.log_history, patience):  # known before a resume already
                control.should_training_stop = True
            control.should_log = control.should_log or control.should_save  # so no bad weights are saved
            self._say(args, state)

        def on_log(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
        ) -> None:
            logs = given["logs"]
            if "loss" in logs:
                _refuse_nonsense(logs, state.global_step)
            if "loss" in logs or "eval_loss" in logs:
                self.numbers = self.numbers | logs
                self._say(args, state)

        def on_evaluate(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            if falls_no_more(state.log_history, patience):
                control.should_training_stop = True

        def on_save(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            place.meet()  # each rank has written its random state
            if not place.leads:
                return
            seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}", fingerprint)
            kept()

        def _say(self, args: TrainingArguments, state: TrainerState) -> None:
            progress = self.session.progress(state, math.ceil(args.num_train_epochs), self.numbers)
            reporter.progress(progress, training=True)

    return Watch()


def falls_no_more(log_history: Sequence[dict[str, float]], patience: int) -> bool:
    """Whether none of the last `patience` looks was better. From the history, so that a resume knows it."""
    looks = [logs["eval_loss"] for logs in log_history if "eval_loss" in logs]
    return 0 < patience < len(looks) and min(looks[-patience:]) >= min(looks[:-patience])


def _last_numbers(state: TrainerState) -> dict[str, float]:
    """What was logged last before a resume; empty at the start."""
    return {name: value for logs in state.log_history for name, value in logs.items()}


def _refuse_nonsense(logs: dict[str, float], step: int) -> None:
    if not (math.isfinite(logs["loss"]) and math.isfinite(logs.get("grad_norm", 0.0))):
        raise RunFailed(
            "loss_is_nan",
            f"The loss is not a number any more at step {step}. Lower the learning rate and train again.",
        )
