"""The tokenizer of the tiny base, and rows as token ids of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modal_app.methods.data import TrainingRows, tokenise
from modal_app.tiny import tiny_base
from shared.datasets.training_rows import Conversation, Messages, Tools
from tests.modal_app.methods.rows import Tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="module")
def tokenizer(data_dir: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer  # imports torch: not while tests are collected

    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_base(data_dir))
    return loaded


@pytest.fixture
def tokenised(tokenizer: PreTrainedTokenizerBase) -> Tokenise:
    def tokenised(*conversations: Messages, tools: Tools = (), max_length_tokens: int = 1024) -> TrainingRows:
        assert isinstance(tokenizer.eos_token_id, int)
        numbered = enumerate((Conversation(one, tools) for one in conversations), start=1)
        stop_ids = {tokenizer.eos_token_id}
        return tokenise(numbered, tokenizer, max_length_tokens=max_length_tokens, stop_ids=stop_ids)

    return tokenised
