"""Which tokens are learned, and which rows are left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modal_app.base import plain_template, template_fingerprint
from modal_app.methods.data import (
    read_conversations,
    tokenise,
    tokenise_labelled,
    tokenise_preferences,
)
from modal_app.session.failures import RunFailed
from shared.datasets.loss_mask import IGNORED, PLAIN_TEMPLATE
from shared.datasets.training_rows import Conversation, Labelled, Preference
from tests.modal_app.methods.rows import Tokenise, what_is_learned
from tests.modal_app.trainers import messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHIFTING = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"


def test_every_answer_is_learned(tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        *messages(("One?", "First.")),
        *messages(("Two?", "Second.")),
    ]
    data = tokenised(talk)
    assert what_is_learned(tokenizer, data) == "First.<|im_end|>Second.<|im_end|>"
    assert "First.<|im_end|>" in tokenizer.decode(data.rows[0]["input_ids"])
    assert len(data.rows[0]["input_ids"]) == len(data.rows[0]["labels"])
    assert data.shifted == []


@pytest.mark.parametrize("answer", ["", " leading space", "\nleading line", "a <|im_end|> b", "日本語"])
def test_odd_answers_end_where_they_end(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise, answer: str
) -> None:
    data = tokenised(messages(("What?", answer)))
    assert what_is_learned(tokenizer, data).endswith(f"{answer}<|im_end|>")


def test_rows_over_the_limit_are_named(tokenised: Tokenise) -> None:
    short, long = messages(("What?", "That.")), messages(("What?", "word " * 50))
    data = tokenised(short, long, short, max_length_tokens=40)
    assert len(data.rows) == 2
    assert data.too_long == [2]


def test_a_template_without_an_end_gets_one(tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise) -> None:
    before, own = template_fingerprint(tokenizer), tokenizer.chat_template
    try:
        tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        assert what_is_learned(tokenizer, tokenised(messages(("What?", "That.")))).endswith("<|im_end|>")
        tokenizer.chat_template = PLAIN_TEMPLATE
        assert what_is_learned(tokenizer, tokenised(messages(("What?", "That.")))) == "That.<|im_end|>"
        assert template_fingerprint(tokenizer) != before
        tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
        with pytest.raises(RunFailed, match="row 1: no system turn"):
            tokenised(messages(("What?", "That.")))
    finally:
        tokenizer.chat_template = own
    assert template_fingerprint(tokenizer) == before


ENDS = [("That.", "This."), ("That.", ""), ("word word", "word"), ("日本語", " 日本語")]


@pytest.mark.parametrize(("better", "worse"), ENDS)
@pytest.mark.parametrize("template", [None, PLAIN_TEMPLATE, SHIFTING])
def test_each_end_of_a_preference_has_the_mask_of_a_conversation(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise, better: str, worse: str, template: str | None
) -> None:
    """So it is the X-ray's, which test_xray holds against `tokenise`."""
    own = tokenizer.chat_template
    asked = messages(("What?", ""))[:1]
    chosen, rejected = ({"role": "assistant", "content": end} for end in (better, worse))
    try:
        tokenizer.chat_template = template or own
        apart = tokenised([*asked, chosen], [*asked, rejected]).rows
        limits = {"max_length_tokens": 1024, "stop_ids": {tokenizer.eos_token_id}}
        preferred = Preference(asked, [chosen], [rejected])
        both = tokenise_preferences([(1, preferred)], tokenizer, **limits)
        good = tokenise_labelled([(1, Labelled(Conversation([*asked, chosen]), True))], tokenizer, **limits)
    finally:
        tokenizer.chat_template = own
    ((row,), (labelled,)) = both.rows, good.rows
    for whole, name in zip(apart, ("chosen_ids", "rejected_ids"), strict=True):
        assert row["prompt_ids"] + row[name] == whole["input_ids"]
        assert [IGNORED] * len(row["prompt_ids"]) + row[name] == whole["labels"]
    assert labelled["prompt_ids"] + labelled["completion_ids"] == apart[0]["input_ids"]
    assert [IGNORED] * len(labelled["prompt_ids"]) + labelled["completion_ids"] == apart[0]["labels"]
    assert both.longest_tokens == sum(len(whole["input_ids"]) for whole in apart)
    assert both.shifted == ([1] if template == SHIFTING else [])


def test_a_preference_that_says_nothing_or_too_much_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    asked = messages(("What?", ""))[:1]

    def ends(better: str, worse: str) -> Preference:
        return Preference(asked, *([{"role": "assistant", "content": end}] for end in (better, worse)))

    rows = [ends("a", "b"), ends("a", "a"), ends("a", "word " * 50), ends("b", "a")]
    data = tokenise_preferences(
        enumerate(rows, start=1), tokenizer, max_length_tokens=40, stop_ids={tokenizer.eos_token_id}
    )
    assert (len(data.rows), data.teach_nothing, data.too_long) == (2, [2], [3])


def test_a_row_of_which_nothing_is_learned_is_named(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    own, end = tokenizer.chat_template, tokenizer.eos_token
    try:
        tokenizer.chat_template = "{{ messages[0]['content'] }}"  # no answer in it
        tokenizer.eos_token = None  # and no end
        row = Conversation(messages(("What?", "That.")))
        data = tokenise([(3, row)], tokenizer, max_length_tokens=40, stop_ids=set())
    finally:
        tokenizer.chat_template, tokenizer.eos_token = own, end
    assert (data.rows, data.teach_nothing) == ([], [3])


def test_templates_are_saved_without_the_marks_of_trainers(tokenizer: PreTrainedTokenizerBase) -> None:
    own = str(tokenizer.chat_template)
    marked = "a {%- generation -%} b {% endgeneration %}\n c{%+ generation %}d{%-endgeneration-%} e"
    assert "generation" in own
    for template in (own, marked):
        talk = messages(("What?", "That."))
        before = tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False)
        plain = plain_template(template)
        assert not re.search(r"\{%.*generation %\}", plain)
        assert tokenizer.apply_chat_template(talk, chat_template=plain, tokenize=False) == before
    fingerprint = template_fingerprint(tokenizer)
    try:
        tokenizer.chat_template = plain_template(own)
        assert template_fingerprint(tokenizer) == fingerprint
    finally:
        tokenizer.chat_template = own


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
        '{"messages": [{"role":"user","content":"a"}, {"role":"assistant","content":"b","weight":2}]}',
        '{"messages": [{"role":"user","content":"a"}, {"role":"assistant","content":"b"}], "tools": [1]}',
        '{"messages": [{"role":"user","content":"a"}, {"role":"assistant","content":"","tool_calls":["f"]}]}',
    ],
)
def test_a_row_that_is_no_conversation_is_named(tmp_path: Path, line: str) -> None:
    rows = tmp_path / "train.jsonl"
    rows.write_text(
        '{"messages": [{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n\n' + line
    )
    with pytest.raises(RunFailed, match="Row 3 ") as refused:
        list(read_conversations(rows))
    assert refused.value.code == "dataset_invalid"
