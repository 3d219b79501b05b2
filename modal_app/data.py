"""Rows in, token ids out: only the last answer of a conversation is learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modal_app.session.failures import RunFailed
from shared.datasets.loss_mask import mask
from shared.datasets.training_rows import Messages, conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class TrainingRows:
    """What a trainer takes. Row numbers count lines of the training file from 1."""

    rows: list[dict[str, list[int]]] = field(default_factory=list)  # input_ids and labels, equally long
    too_long: list[int] = field(default_factory=list)  # row numbers left out
    shifted: list[int] = field(
        default_factory=list
    )  # row numbers whose prompt the template renders differently

    @property
    def longest_tokens(self) -> int:
        return max(len(row["input_ids"]) for row in self.rows)


def read_messages(path: Path) -> Iterator[tuple[int, Messages]]:
    """Row number and messages of each line. Raises RunFailed with code dataset_invalid."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _messages(number, line)


def _messages(number: int, line: str) -> Messages:
    messages = conversation(line)
    if messages is None:
        raise RunFailed(
            "dataset_invalid",
            f'Row {number} is not {{"messages": [...]}} with a question and an answer last.',
        )
    return messages


def tokenise(
    conversations: Iterable[tuple[int, Messages]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length_tokens: int,
    stop_ids: set[int],
) -> TrainingRows:
    """Every row as token ids, cut by nobody: a row over `max_length_tokens` is left out and named.

    A row ends with the first token of `stop_ids` after the answer, so that the model learns to stop.
    """
    result = TrainingRows()
    for number, messages in conversations:
        prompt = _render(tokenizer, messages[:-1], number, add_generation_prompt=True)
        whole = _render(tokenizer, messages, number)
        row = mask(prompt, whole, stop_ids, tokenizer.eos_token_id)
        if row.is_shifted:
            result.shifted.append(number)
        if len(row.ids) > max_length_tokens:
            result.too_long.append(number)
        else:
            result.rows.append({"input_ids": row.ids, "labels": row.labels})
    return result


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    number: int,
    *,
    add_generation_prompt: bool = False,
) -> list[int]:
    try:
        encoded: Any = tokenizer.apply_chat_template(
            messages, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=True
        )
    except Exception as error:  # a template may raise anything
        raise RunFailed(
            "template_refused_row", f"The base model's chat template refuses row {number}: {error}"
        ) from error
    ids: list[int] = encoded["input_ids"]
    return ids
