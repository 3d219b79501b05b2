"""Learning which answers are preferred, through TRL 1.16: DPO and KTO, and ORPO on the ground of its DPO.

Adapters are trained: the frozen weights below them are the reference, so no second copy of the model is held.
The token ids and the mask are ours (`data`), the same for every method; TRL's own preparation is passed over.
TRL's ORPO is experimental, learns prompts as well as answers, and holds all logits; here its loss is a few
lines in the trainer for DPO, which has neither fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.base import Loaded
from modal_app.methods.arguments import LEAST_ROWS_AT_ONCE, loop_arguments
from modal_app.methods.data import TrainingRows
from modal_app.methods.lora import adapters, compute_lean
from modal_app.ranks.rows import sharing
from modal_app.session.failures import RunFailed
from modal_app.task import Task
from shared.datasets.loss_mask import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainerCallback
    from trl.trainer.dpo_trainer import DPOTrainer

_LARGEST_MEAN_LOGP = -1e-6  # the odds of a certainty are infinite


def build_trainer(
    task: Task,
    base: Loaded,
    data: TrainingRows,
    held_out: TrainingRows | None,
    callbacks: Sequence[TrainerCallback],
    *,
    rows_at_once: int,
) -> Trainer:
    """A trainer ready to `train()`. Raises RunFailed when the rows hold nothing to compare."""
    from datasets import Dataset

    spec = task.spec
    assert spec.config.batch_size
    by_label = spec.method == "kto"
    if by_label:
        _require_both_labels(data, spec.config.batch_size)
    arguments = loop_arguments(
        task,
        rows_at_once=rows_at_once,
        example_count=len(data.rows),
        held_out=held_out is not None,
    )
    arguments |= {
        "beta": spec.config.beta,
        "max_length": None,  # the rows are cut to measure already, and TRL would cut in silence
        "activation_checkpointing": hardware.device() == "cuda",
    }
    trainer_class, config = _kto(arguments, data) if by_label else _dpo(arguments, odds=spec.method == "orpo")
    rows = _with_other_answers(data, spec.config.seed) if by_label else data.rows
    looked_at = None
    if held_out:
        looked_at = _with_other_answers(held_out, spec.config.seed) if by_label else held_out.rows
    trainer: Trainer = sharing(trainer_class, task.place)(
        model=base.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(looked_at) if looked_at else None,
        processing_class=base.tokenizer,
        peft_config=adapters(spec, base.model),
        callbacks=list(callbacks),
    )
    assert trainer.model is not None
    compute_lean(trainer.model)
    return trainer


def metrics(log_history: Sequence[dict[str, float]]) -> dict[str, Any]:
    """How far better answers are ahead of worse ones, in the reward of the method, first and last logged.

    For dpo and kto the reward is beta x the log-probability gained over the reference; for orpo beta x the
    mean log-probability of a token. The accuracy is the share of pairs that are the right way round.
    """
    found: dict[str, Any] = {}
    for said, name in (("margins", "reward_margin"), ("accuracies", "reward_accuracy")):
        if trained := _logged(log_history, f"rewards/{said}"):
            found |= {f"first_{name}": trained[0], name: trained[-1]}
        if held_out := _logged(log_history, f"eval_rewards/{said}"):
            found[f"validation_{name}"] = held_out[-1]
    return found


def _logged(log_history: Sequence[dict[str, float]], name: str) -> list[float]:
    return [logs[name] for logs in log_history if name in logs]


def _require_both_labels(data: TrainingRows, batch_size: int) -> None:
    if len({row["label"] for row in data.rows}) < 2:
        raise RunFailed(
            "nothing_to_compare",
            "All answers have the same label. KTO needs good ones and bad ones: label more of them, or use"
            " another method.",
        )
    if batch_size < LEAST_ROWS_AT_ONCE["kto"]:
        raise RunFailed("batch_too_small", "KTO compares rows of a batch: take a batch_size of 2 or more.")


def _with_other_answers(data: TrainingRows, seed: int) -> list[dict[str, Any]]:
    """Each row with an answer to another prompt, from which KTO estimates how far the model has moved.

    It is cut so that it takes no more room than the longest row; nothing is learned from it. The rows are
    shuffled once, because TRL takes those of KTO as they lie, which is often by their label.
    """
    rows = Random(seed).sample(data.rows, len(data.rows))
    found = []
    for index, row in enumerate(rows):
        others = (rows[(index + step) % len(rows)] for step in range(1, len(rows)))
        other = next((other for other in others if other["prompt_ids"] != row["prompt_ids"]), row)
        room = max(1, data.longest_tokens - len(row["prompt_ids"]))
        found.append(row | {"KL_completion_ids": other["completion_ids"][:room]})
    return found


def _kto(arguments: dict[str, Any], data: TrainingRows) -> tuple[Any, Any]:
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    class LabelledTrainer(KTOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    good = sum(row["label"] for row in data.rows)
    bad = len(data.rows) - good
    config = KTOConfig(
        **arguments,
        # The rarer kind counts more, so that both weigh the same (Ethayarajh et al. 2024, equation 8).
        desirable_weight=max(1.0, bad / good),
        undesirable_weight=max(1.0, good / bad),
    )
    return LabelledTrainer, config


def _dpo(arguments: dict[str, Any], *, odds: bool) -> tuple[Any, Any]:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    class PairedTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    return _with_odds_ratio(PairedTrainer) if odds else PairedTrainer, DPOConfig(**arguments)


def _with_odds_ratio(trainer: type[DPOTrainer]) -> type[DPOTrainer]:
    """The trainer with the loss of ORPO (Hong, Lee and Thorne 2024, arXiv 2403.07691, equations 6 and 7)."""
    from torch.nn.functional import logsigmoid

    class OddsRatioTrainer(trainer):  # type: ignore[valid-type, misc]  # a class made at run time
        def _compute_loss(
            self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool
        ) -> torch.Tensor:
            learned = inputs["completion_mask"]
            output = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                labels=inputs["input_ids"].masked_fill(learned == 0, IGNORED),
                use_cache=False,
                fused_lm_head=True,
            )
            lengths = learned[:, 1:].sum(dim=1).clamp(min=1)
            chances = output.log_probs.float().sum(dim=1)  # of each answer; prompts count as 0
            means = chances / lengths
            (chosen, rejected), count = means.chunk(2), lengths.size(0) // 2
            margin = _log_odds(chosen) - _log_odds(rejected)
            likelihood = -chances[:count].sum() / lengths[:count].sum()
            self._note(chosen, rejected, likelihood)
            loss: torch.Tensor = likelihood - self.beta * logsigmoid(margin).mean()
            return loss

        def _note(self, chosen: torch.Tensor, rejected: torch.Tensor, likelihood: torch.Tensor) -> None:
            good, bad = self.beta * chosen.detach(), self.beta * rejected.detach()
            numbers = {
                "rewards/chosen": good,
                "rewards/rejected": bad,
                "rewards/margins": good - bad,
                "rewards/accuracies": (good > bad).float(),
                "nll_loss": likelihood.detach(),
            }
            noted = self._metrics["train" if self.model.training else "eval"]
            for name, values in numbers.items():
                noted[name].append(self.accelerator.gather_for_metrics(values).mean().item())

    return OddsRatioTrainer


def _log_odds(mean_logps: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of the geometric mean p of an answer's token probabilities."""
    bounded = mean_logps.clamp(max=_LARGEST_MEAN_LOGP)
    return bounded - (-bounded.expm1()).log()
