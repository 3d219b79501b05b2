"""Which tokens are learned, and which rows are left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modal_app.base import template_fingerprint
from modal_app.data import TrainingRows, read_messages, tokenise
from modal_app.session.failures import RunFailed
from modal_app.tiny import tiny_base
from shared.datasets.loss_mask import IGNORED, PLAIN_TEMPLATE
from shared.datasets.training_rows import Messages
from tests.modal_app.trainers import messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokenise = Callable[..., TrainingRows]


@pytest.fixture(scope="module")
def tokenizer(data_dir: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer  # imports torch: not while tests are collected

    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_base(data_dir))
    return loaded


@pytest.fixture
def tokenised(tokenizer: PreTrainedTokenizerBase) -> Tokenise:
    def tokenised(*conversations: Messages, max_length_tokens: int = 1024) -> TrainingRows:
        assert isinstance(tokenizer.eos_token_id, int)
        numbered = enumerate(conversations, start=1)
        stop_ids = {tokenizer.eos_token_id}
        return tokenise(numbered, tokenizer, max_length_tokens=max_length_tokens, stop_ids=stop_ids)

    return tokenised


def _learned(tokenizer: PreTrainedTokenizerBase, data: TrainingRows) -> str:
    return str(tokenizer.decode([label for label in data.rows[0]["labels"] if label != IGNORED]))


def test_only_the_last_answer_is_learned(tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        *messages(("One?", "First.")),
        *messages(("Two?", "Second.")),
    ]
    data = tokenised(talk)
    assert _learned(tokenizer, data) == "Second.<|im_end|>"
    assert "First.<|im_end|>" in tokenizer.decode(data.rows[0]["input_ids"])
    assert len(data.rows[0]["input_ids"]) == len(data.rows[0]["labels"])
    assert data.shifted == []


@pytest.mark.parametrize("answer", ["", " leading space", "\nleading line", "a <|im_end|> b", "日本語"])
def test_odd_answers_end_where_they_end(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise, answer: str
) -> None:
    data = tokenised(messages(("What?", answer)))
    assert _learned(tokenizer, data).endswith(f"{answer}<|im_end|>")


def test_rows_over_the_limit_are_named(tokenised: Tokenise) -> None:
    short, long = messages(("What?", "That.")), messages(("What?", "word " * 50))
    data = tokenised(short, long, short, max_length_tokens=40)
    assert len(data.rows) == 2
    assert data.too_long == [2]


def test_a_template_without_an_end_gets_one(tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise) -> None:
    before, own = template_fingerprint(tokenizer), tokenizer.chat_template
    try:
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        assert _learned(tokenizer, tokenised(messages(("What?", "That.")))).endswith("<|im_end|>")
        tokenizer.chat_template = PLAIN_TEMPLATE
        assert _learned(tokenizer, tokenised(messages(("What?", "That.")))) == "That.<|im_end|>"
        assert template_fingerprint(tokenizer) != before
        tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
        with pytest.raises(RunFailed, match="row 1: no system turn"):
            tokenised(messages(("What?", "That.")))
    finally:
        tokenizer.chat_template = own
    assert template_fingerprint(tokenizer) == before


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"text": "hello"}',
        '{"messages": []}',
        '{"messages": [{"role": "assistant", "content": "alone"}]}',
        '{"messages": [{"role": "user", "content": "What?"}, {"role": "user", "content": "What?"}]}',
        '{"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": null}]}',
    ],
)
def test_a_row_that_is_no_conversation_is_named(tmp_path: Path, line: str) -> None:
    rows = tmp_path / "train.jsonl"
    rows.write_text(
        '{"messages": [{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n\n' + line
    )
    with pytest.raises(RunFailed, match="Row 3 ") as refused:
        list(read_messages(rows))
    assert refused.value.code == "dataset_invalid"
