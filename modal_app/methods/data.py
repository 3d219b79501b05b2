"""Rows in, token ids out. What is learned of a row is decided by `loss_mask`, for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modal_app.session.failures import RunFailed
from shared.datasets.loss_mask import MaskedRow, Masker
from shared.datasets.template_rows import TemplateFails
from shared.datasets.training_rows import (
    Conversation,
    Labelled,
    Messages,
    Preference,
    Tools,
    conversation,
    labelled,
    preference,
)
from shared.training.config import Method

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = TypeVar("Row")


@dataclass
class TrainingRows:
    """What a trainer takes. Row numbers count lines of the training file from 1.

    Supervised: input_ids and labels, equally long. dpo, orpo: prompt_ids, chosen_ids and rejected_ids.
    kto: prompt_ids, completion_ids and label. Nothing is ever cut.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    longest_tokens: int = 0  # of what passes through the model at once for one row: both ends of a preference
    too_long: list[int] = field(default_factory=list)  # row numbers left out
    teach_nothing: list[int] = field(default_factory=list)  # row numbers left out
    shifted: list[int] = field(
        default_factory=list
    )  # row numbers whose prompt the template renders differently

    def add(self, number: int, row: dict[str, Any], *sequences: int, limit: int) -> None:
        """The row is trained, unless one of its sequences has more than `limit` tokens."""
        if max(sequences) > limit:
            self.too_long.append(number)
        else:
            self.rows.append(row)
            self.longest_tokens = max(self.longest_tokens, sum(sequences))


def tokenised_file(
    method: Method, path: Path, tokenizer: PreTrainedTokenizerBase, *, limit: int, stop_ids: set[int]
) -> TrainingRows:
    """The rows of a training file of this method. Raises RunFailed at a row that it cannot read."""
    limits: dict[str, Any] = {"max_length_tokens": limit, "stop_ids": stop_ids}
    if method in ("dpo", "orpo"):
        return tokenise_preferences(read_preferences(path), tokenizer, **limits)
    if method == "kto":
        return tokenise_labelled(read_labelled(path), tokenizer, **limits)
    return tokenise(read_conversations(path), tokenizer, **limits)


def read_conversations(path: Path) -> Iterator[tuple[int, Conversation]]:
    """Row number and conversation of each line. Raises RunFailed, dataset_invalid, as all readers do."""
    return read_rows(path, conversation, '{"messages": [...]} with a question and an answer last')


def read_preferences(path: Path) -> Iterator[tuple[int, Preference]]:
    """Row number, prompt and both answers of each line."""
    shape = '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}'
    return read_rows(path, preference, f"{shape} with one answer in each")


def read_labelled(path: Path) -> Iterator[tuple[int, Labelled]]:
    """Row number, conversation and label of each line."""
    return read_rows(path, labelled, '{"messages": [...], "label": true or false} with an answer last')


def read_rows(path: Path, parse: Callable[[str], Row | None], shape: str) -> Iterator[tuple[int, Row]]:
    """Row number and content of each line that is not empty."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = parse(line)
            if row is None:
                raise RunFailed("dataset_invalid", f"Row {number} is not {shape}.")
            yield number, row


def tokenise(
    conversations: Iterable[tuple[int, Conversation]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length_tokens: int,
    stop_ids: set[int],
) -> TrainingRows:
    """Every conversation as token ids, cut by nobody: a row over `max_length_tokens` is left out and named.

    Which answers are learned is told by their weights: see `loss_mask.learned_answers`.
    """
    result, masker = TrainingRows(), _masker(tokenizer, stop_ids)
    for number, row in conversations:
        masked = _masked(masker.answers, row, number, result)
        if not masked.spans:
            result.teach_nothing.append(number)
            continue
        ids_and_labels = {"input_ids": masked.ids, "labels": masked.labels}
        result.add(number, ids_and_labels, len(masked.ids), limit=max_length_tokens)
    return result


def tokenise_preferences(
    preferences: Iterable[tuple[int, Preference]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length_tokens: int,
    stop_ids: set[int],
) -> TrainingRows:
    """Both ends behind their prompt; each counts for the limit with the prompt before it.

    A row whose ends are the same tokens teaches nothing and is left out.
    """
    result, masker = TrainingRows(), _masker(tokenizer, stop_ids)
    for number, row in preferences:
        better, worse = (_masked(masker.last_answer, end, number, result) for end in row.ends)
        start = min(better.start, worse.start)
        if better.ids[:start] != worse.ids[:start]:
            raise RunFailed(
                "template_refused_row",
                f"The base model's chat template renders the prompt of row {number} anew with each answer.",
            )
        if better.ids == worse.ids or start in (len(better.ids), len(worse.ids)):
            result.teach_nothing.append(number)
            continue
        ids = {
            "prompt_ids": better.ids[:start],
            "chosen_ids": better.ids[start:],
            "rejected_ids": worse.ids[start:],
        }
        result.add(number, ids, len(better.ids), len(worse.ids), limit=max_length_tokens)
    return result


def tokenise_labelled(
    answers: Iterable[tuple[int, Labelled]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length_tokens: int,
    stop_ids: set[int],
) -> TrainingRows:
    """A prompt, an answer, and whether it is a good one."""
    result, masker = TrainingRows(), _masker(tokenizer, stop_ids)
    for number, (row, label) in answers:
        masked = _masked(masker.last_answer, row, number, result)
        if not masked.spans:
            result.teach_nothing.append(number)
            continue
        ids = {
            "prompt_ids": masked.ids[: masked.start],
            "completion_ids": masked.ids[masked.start :],
            "label": label,
        }
        result.add(number, ids, len(masked.ids), limit=max_length_tokens)
    return result


def _masker(tokenizer: PreTrainedTokenizerBase, stop_ids: set[int]) -> Masker:
    def encode(messages: Messages, tools: Tools, add_generation_prompt: bool) -> list[int]:
        try:
            encoded: Any = tokenizer.apply_chat_template(
                messages,
                tools=list(tools) or None,
                add_generation_prompt=add_generation_prompt,
                tokenize=True,
                return_dict=True,
            )
        except Exception as error:  # a template may raise anything
            raise TemplateFails(str(error)) from error
        ids: list[int] = encoded["input_ids"]
        return ids

    eos_id: Any = tokenizer.eos_token_id
    return Masker(encode, stop_ids, eos_id)


def _masked(
    mask: Callable[[Conversation], MaskedRow], row: Conversation, number: int, result: TrainingRows
) -> MaskedRow:
    """The row with its mask; whether the template shifts it is noted once in `result`."""
    try:
        masked = mask(row)
    except TemplateFails as error:
        raise RunFailed(
            "template_refused_row", f"The base model's chat template refuses row {number}: {error}"
        ) from error
    if masked.is_shifted and result.shifted[-1:] != [number]:
        result.shifted.append(number)
    return masked
