"""Models that map texts to vectors, through sentence-transformers: what belongs together comes together.

Each question is compared with the answers of all rows of its batch, its own being the right one
(MultipleNegativesRankingLoss, Henderson et al. 2017). A base model that was made for embeddings is trained as
it is; of any other the mean of its last hidden states becomes the vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_app import artifact, hardware
from modal_app.base import refusing, source_of
from modal_app.methods.arguments import loop_arguments, total_steps
from modal_app.methods.data import read_rows
from modal_app.ranks.rows import sharing
from modal_app.session.failures import RunFailed
from modal_app.task import Task
from shared.datasets.loss_mask import limit_tokens
from shared.datasets.training_rows import Texts, texts
from shared.training.micro_batch import MICRO_BATCH_TOKENS

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from transformers import Trainer, TrainerCallback

_MOST_MEASURED_ROWS = 1_000  # of which recall is taken, before and after


class EmbeddingLearner:
    """An embedding model with its pairs of texts; `task.Learner` for the method embedding."""

    def __init__(self, task: Task) -> None:
        """The model is loaded and the texts are read and measured. Raises RunFailed and Stopped."""
        self._task = task
        task.reporter.say("Loading model")
        self._model = _load(task)
        task.stop.check()
        task.reporter.say("Preparing data")
        self._limit_tokens = limit_tokens(task.spec.config.max_length, self._model.max_seq_length)
        self._model.max_seq_length = self._limit_tokens
        self._longest_tokens = 1
        self._too_long: list[int] = []
        self._rows = self._read(task.dataset, "rows")
        self._held_out = self._read(task.validation, "validation rows") if task.validation else []
        if len(self._rows) < 2:
            raise RunFailed(
                "nothing_to_train",
                f"Fewer than two rows of up to {self._limit_tokens} tokens are left, and each is told from"
                " the others. Raise max_length or add rows.",
            )
        self._recall_before = self._recall()

    @property
    def example_count(self) -> int:
        return len(self._rows)

    @property
    def too_long_count(self) -> int:
        return len(self._too_long)

    @property
    def rows_at_once(self) -> int:
        batch_size, most = self._rank_rows, self._task.most_rows_at_once
        return min(batch_size, max(1, MICRO_BATCH_TOKENS // self._longest_tokens), most or batch_size)

    @property
    def fewer_rows_at_once(self) -> int | None:
        return self.rows_at_once // 2 or None

    @property
    def longest_row_tokens(self) -> int:
        return self._longest_tokens

    @property
    def model_bytes(self) -> int:
        return hardware.weights_bytes(self._model)

    @property
    def total_steps(self) -> int:
        return total_steps(self._task.spec, self.example_count)

    @property
    def looks_at_held_out_rows(self) -> bool:
        return bool(self._held_out)

    def trainer(self, callbacks: Sequence[TrainerCallback]) -> Trainer:
        """The whole batch is compared at once, read in parts where memory asks for it."""
        from datasets import Dataset
        from sentence_transformers import SentenceTransformerTrainingArguments
        from sentence_transformers.base.sampler import BatchSamplers
        from sentence_transformers.sentence_transformer.losses import (
            CachedMultipleNegativesRankingLoss,
            MultipleNegativesRankingLoss,
        )

        several = self._task.place.count > 1
        arguments = loop_arguments(
            self._task,
            rows_at_once=self._rank_rows,
            example_count=self.example_count,
            held_out=self.looks_at_held_out_rows,
        )
        loss = (
            MultipleNegativesRankingLoss(self._model, gather_across_devices=several)
            if self._rank_rows == self.rows_at_once
            else CachedMultipleNegativesRankingLoss(
                self._model, mini_batch_size=self.rows_at_once, gather_across_devices=several
            )  # the same gradients
        )
        config = SentenceTransformerTrainingArguments(
            **arguments,
            batch_sampler=BatchSamplers.NO_DUPLICATES,  # the same text twice would be right and wrong
        )
        config.dataloader_drop_last = False  # it sets this for several ranks, whose shares are even here
        trainer: Trainer = sharing(_trainer_class(), self._task.place)(
            model=self._model,
            args=config,
            train_dataset=Dataset.from_list([row._asdict() for row in self._rows]),
            eval_dataset=Dataset.from_list([row._asdict() for row in self._held_out]) or None,
            loss=loss,
            callbacks=list(callbacks),
        )
        return trainer

    def gather(self) -> None:
        """Every rank holds all weights already."""

    def save(self) -> int:
        """`artifact/` is a model that SentenceTransformer loads afterwards."""
        directory = self._task.directory
        with artifact.replacing(directory.artifact) as draft:
            module: torch.nn.Module = self._model
            module.to(hardware.saved_dtype())
            self._model.save_pretrained(str(draft), create_model_card=False, safe_serialization=True)
        return artifact.size_bytes(directory.artifact)

    def template_fingerprint(self) -> None:
        """The model is not talked to."""
        return None

    def metrics(self) -> dict[str, Any]:
        """The share of questions whose answer is the nearest of all; of held-out rows if there are any."""
        measured = self._measured_rows()
        return {
            "recall_at_1_before": self._recall_before,
            "recall_at_1": self._recall(),
            "recall_rows": len(measured),
            "recall_on": "validation" if self._held_out else "training",
        }

    @property
    def _rank_rows(self) -> int:
        """Rows of a step for one rank."""
        assert self._task.spec.config.batch_size
        return self._task.spec.config.batch_size // self._task.place.count

    def _measured_rows(self) -> list[Texts]:
        return (self._held_out or self._rows)[:_MOST_MEASURED_ROWS]

    def _recall(self) -> float:
        rows = self._measured_rows()
        answers = list(dict.fromkeys(row.positive for row in rows))
        asked = self._encode([row.anchor for row in rows])
        nearest = self._model.similarity(asked, self._encode(answers)).argmax(dim=1).tolist()
        right: int = sum(answers[index] == row.positive for index, row in zip(nearest, rows, strict=True))
        return right / len(rows)

    def _encode(self, said: list[str]) -> torch.Tensor:
        vectors: torch.Tensor = self._model.encode(
            said, convert_to_tensor=True, show_progress_bar=False, device=hardware.device()
        )
        return vectors

    def _read(self, file: Path, name: str) -> list[Texts]:
        """The rows that are not too long; the history of the job names the others."""
        kept, too_long = [], []
        for number, row in read_rows(file, texts, '{"anchor": "...", "positive": "..."} with words in both'):
            lengths = [len(ids) for ids in self._model.tokenizer(list(row))["input_ids"]]
            if max(lengths) > self._limit_tokens:
                too_long.append(number)
            else:
                kept.append(row)
                self._longest_tokens = max(self._longest_tokens, sum(lengths))
        self._task.warn_of_rows(too_long, f"{name} are over {self._limit_tokens} tokens and were left out")
        self._too_long += too_long
        return kept


def _load(task: Task) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    spec = task.spec
    source, safe = source_of(task.base_source, spec.base_revision)
    with refusing(spec.base_model, "an embedding model"):
        model = SentenceTransformer(
            source,
            device=hardware.device(),
            model_kwargs={"use_safetensors": True, "dtype": hardware.weights_dtype(spec.method)},
            **safe,
        )
    model.model_card_data.widget = [{}]  # else rows are picked for a card that nobody reads
    tokenizer = model.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return model


def _trainer_class() -> type[SentenceTransformerTrainer]:
    # The class is made here because its base is known only once sentence-transformers is imported.
    import torch
    from sentence_transformers import SentenceTransformerTrainer

    class CountingTrainer(SentenceTransformerTrainer):
        def _track_num_input_tokens(self, inputs: dict[str, torch.Tensor]) -> None:
            """Both texts of each row; the trainer's own count knows one input only."""
            counts = [int(value.sum()) for name, value in inputs.items() if name.endswith("attention_mask")]
            tokens = self.accelerator.gather(torch.tensor(sum(counts), device=self.args.device))
            self.state.num_input_tokens_seen += int(tokens.sum())

    return CountingTrainer
