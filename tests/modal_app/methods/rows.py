"""Rows as the trainer makes them, under any chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modal_app.methods.data import TrainingRows
from shared.datasets.loss_mask import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokenise = Callable[..., TrainingRows]


def what_is_learned(tokenizer: PreTrainedTokenizerBase, data: TrainingRows) -> str:
    """Of the first row."""
    return str(tokenizer.decode([label for label in data.rows[0]["labels"] if label != IGNORED]))


@contextmanager
def templated(tokenizer: PreTrainedTokenizerBase, template: str | None) -> Iterator[None]:
    """The tokenizer has this chat template meanwhile. None: its own."""
    own = tokenizer.chat_template
    tokenizer.chat_template = template or own
    try:
        yield
    finally:
        tokenizer.chat_template = own
