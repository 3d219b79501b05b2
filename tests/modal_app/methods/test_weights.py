"""What a row says beside its words is heeded: weights of answers, and tools with their calls."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modal_app.export.finished import FinishedModel
from modal_app.export.weights import write_merged
from modal_app.methods.data import tokenise_labelled, tokenise_preferences
from modal_app.session.failures import RunFailed
from modal_app.tiny import tiny_base
from shared.datasets.loss_mask import PLAIN_TEMPLATE
from shared.datasets.training_rows import Conversation, Labelled, Messages, Preference
from shared.training.spec import TrainerExit
from tests.conftest import Figure
from tests.modal_app import measures, trainers
from tests.modal_app.methods.rows import Tokenise, templated, what_is_learned
from tests.modal_app.trainers import Trainer, messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAYS = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
MARKS_THE_LAST = SAYS.replace("{{ m", "{{ '~' if loop.last and m.role == 'assistant' }}{{ m")


def weighed(*weights: int | None) -> Messages:
    """As many questions and answers, the answers with these weights."""
    talk = [
        message
        for number in range(1, len(weights) + 1)
        for message in messages((f"Which is {number}?", f"Number {number}."))
    ]
    return [
        message
        if place % 2 == 0 or weights[place // 2] is None
        else message | {"weight": weights[place // 2]}
        for place, message in enumerate(talk)
    ]


@pytest.mark.parametrize(
    ("weights", "learned"),
    [
        ((None, None), "12"),
        ((0, 1), "2"),
        ((0, None), "2"),
        ((1, 0), "1"),
        ((None, 0), "1"),
        ((1, 1), "12"),
        ((None, 1), "12"),
        ((1, 0, 1, 0), "13"),
        ((0, 0), ""),
    ],
)
def test_weights_say_which_answers_are_learned(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise, weights: tuple[int | None, ...], learned: str
) -> None:
    data = tokenised(weighed(*weights))
    if not learned:
        assert (data.rows, data.teach_nothing) == ([], [1])
        return
    assert what_is_learned(tokenizer, data) == "".join(f"Number {number}.<|im_end|>" for number in learned)
    read = tokenizer.decode(data.rows[0]["input_ids"])
    for number in range(1, len(weights) + 1):  # what follows the last answer that is learned teaches nothing
        assert (f"Number {number}." in read) == (number <= int(learned[-1]))


@pytest.mark.parametrize("template", [None, PLAIN_TEMPLATE])
def test_an_earlier_answer_is_learned_with_its_end_and_nothing_of_others(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise, template: str | None
) -> None:
    answers = ["a <|im_end|> b", "", "a <|im_end|> b", "日本語"]
    talk = [
        message | ({"weight": 1} if message["role"] == "assistant" else {})
        for answer in answers
        for message in messages(("0 <|im_end|> What?", answer))
    ]
    with templated(tokenizer, template):
        learned = what_is_learned(tokenizer, tokenised(talk))
    assert learned == "".join(f"{answer}<|im_end|>" for answer in answers)


@pytest.mark.parametrize("end", ["", "{{ eos_token }}"])
def test_nothing_of_others_is_learned_where_a_template_hides_questions(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise, end: str
) -> None:
    answers_only = "{% for m in messages if m.role == 'assistant' %}{{ '\\n' + m.content }}{% endfor %}"
    with templated(tokenizer, answers_only + end):
        learned = what_is_learned(tokenizer, tokenised(weighed(1, 0, 1)))
    assert learned == "Number 1.\nNumber 3.<|im_end|>"


def test_an_answer_to_nothing_is_read(tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise) -> None:
    greeted = [{"role": "assistant", "content": "Welcome."}, *weighed(None)]
    assert what_is_learned(tokenizer, tokenised(greeted)) == "Number 1.<|im_end|>"


def test_where_answers_cannot_be_told_apart_the_last_is_learned(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise
) -> None:
    with templated(tokenizer, MARKS_THE_LAST):
        learned = what_is_learned(tokenizer, tokenised(weighed(None, None)))
    assert "Number 1." not in learned
    assert "Number 2." in learned


@pytest.mark.parametrize(
    ("weights", "template", "says"),
    [
        ((0, 1), "{{ messages | length }}" + SAYS, "renders all before message 4 anew"),
        ((1, 1), MARKS_THE_LAST, "where message 2 ends"),
    ],
)
def test_what_cannot_be_weighed_is_refused(
    tokenizer: PreTrainedTokenizerBase,
    tokenised: Tokenise,
    weights: tuple[int, ...],
    template: str,
    says: str,
) -> None:
    with templated(tokenizer, template), pytest.raises(RunFailed, match=says) as refused:
        tokenised(weighed(*weights))
    assert refused.value.code == "template_refused_row"


CALL = {"name": "find", "arguments": '{"what": "it"}'}
TOOLS = [{"type": "function", "function": {"name": "find", "description": "Finds."}}]
CALLED: Messages = [
    {"role": "user", "content": "Where is it?"},
    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
    {"role": "tool", "content": "here"},
    {"role": "assistant", "content": "Here."},
]
SHOWN = "{% for t in tools %}{{ t | tojson }}{% endfor %}"
CALLS = "{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}"
RESULTS = "{% if m.role == 'tool' %}{{ m.content }}{% endif %}"


def _with_tools(*parts: str) -> str:
    """A template that shows these parts of what a row has of tools."""
    shown, rest = (SHOWN if SHOWN in parts else ""), "".join(part for part in parts if part != SHOWN)
    said = "{% if m.role != 'tool' %}{{ m.content }}{% endif %}"
    return shown + "{% for m in messages %}" + said + rest + "{{ eos_token }}{% endfor %}"


def test_tools_and_calls_are_shown_with_arguments_as_objects(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise
) -> None:
    with templated(tokenizer, _with_tools(SHOWN, CALLS, RESULTS)):
        (row,) = tokenised(CALLED, tools=TOOLS).rows
    with templated(tokenizer, _with_tools(SHOWN, CALLS.replace(" | tojson", " + '!'"), RESULTS)):
        (as_text,) = tokenised(CALLED, tools=TOOLS).rows
    shown, end = tokenizer.decode(row["input_ids"]), "<|im_end|>"
    assert shown.endswith(f'"Finds."}}}}Where is it?{end}{{"what": "it"}}{end}here{end}Here.{end}')
    assert '{"what": "it"}!<|im_end|>' in tokenizer.decode(as_text["input_ids"])


@pytest.mark.parametrize(
    ("parts", "hidden"),
    [
        ((), "definitions of tools"),
        ((CALLS, RESULTS), "definitions of tools"),
        ((SHOWN, RESULTS), "calls of tools"),
        ((SHOWN, CALLS), "results of tools"),
    ],
)
def test_tools_that_a_template_would_leave_out_are_refused(
    tokenizer: PreTrainedTokenizerBase, tokenised: Tokenise, parts: tuple[str, ...], hidden: str
) -> None:
    limits = {"max_length_tokens": 1024, "stop_ids": {tokenizer.eos_token_id}}
    end = [{"role": "assistant", "content": "There."}]
    preferred = [(7, Preference(CALLED[:-1], CALLED[-1:], end, TOOLS))]
    labelled = [(7, Labelled(Conversation(CALLED, TOOLS), True))]
    with templated(tokenizer, _with_tools(*parts)):
        for refuse in (
            lambda: tokenised(CALLED, tools=TOOLS),
            lambda: tokenise_preferences(preferred, tokenizer, **limits),
            lambda: tokenise_labelled(labelled, tokenizer, **limits),
        ):
            with pytest.raises(RunFailed, match=f"leaves out the {hidden}") as refused:
                refuse()
            assert refused.value.code == "template_refused_row"


def test_comparisons_see_tools_and_know_no_weights(tokenizer: PreTrainedTokenizerBase) -> None:
    limits = {"max_length_tokens": 1024, "stop_ids": {tokenizer.eos_token_id}}
    worse = {"role": "assistant", "content": "There."}

    def both(*weights: int | None) -> tuple[list[Any], list[Any]]:
        first, last = ({} if weight is None else {"weight": weight} for weight in weights)
        talk = [CALLED[0], CALLED[1] | first, CALLED[2]]
        better = CALLED[3] | last
        preferred = Preference(talk, [better], [worse], TOOLS)
        label = Labelled(Conversation([*talk, better], TOOLS), True)
        return (
            tokenise_preferences([(1, preferred)], tokenizer, **limits).rows,
            tokenise_labelled([(1, label)], tokenizer, **limits).rows,
        )

    with templated(tokenizer, _with_tools(SHOWN, CALLS, RESULTS)):
        plain, weighted = both(None, None), both(1, 0)
    assert plain == weighted
    ((row,), (label,)) = plain
    assert "Finds." in tokenizer.decode(row["prompt_ids"])
    assert row["prompt_ids"] == label["prompt_ids"]
    assert tokenizer.decode(row["chosen_ids"]) == "Here.<|im_end|>"


def test_what_weighs_nothing_is_read_and_not_learned(
    start: Callable[[Path], Trainer],
    new_run: Callable[..., Path],
    libraries: ForkServerContext,
    data_dir: Path,
    tmp_path: Path,
    figure: Figure,
) -> None:
    """The answer between two that are learned has words of its own, which the model could learn by heart."""
    first, last = trainers.facts(8), trainers.facts(16)[8:]
    between = [(f"And who knows of {n}?", f"Mrs Quill asked me to keep number {n} quiet.") for n in range(8)]
    talks = [
        [turn for pair in pairs for turn in messages(pair)]
        for pairs in zip(first, between, last, strict=True)
    ]
    weights = {1: {"weight": 1}, 3: {"weight": 0}, 5: {"weight": 1}}
    rows = [
        {"messages": [turn | weights.get(place, {}) for place, turn in enumerate(talk)]} for talk in talks
    ]
    base = tmp_path / "base"
    shutil.copytree(tiny_base(data_dir), base)
    trainers.add_tool_use(base)
    run_dir = new_run(rows, base_model=str(base), epochs=30, learning_rate=3.5e-3)
    trainer = start(run_dir)
    assert trainer.wait() == TrainerExit.COMPLETED, trainers.result(run_dir).error
    ends = [[{"messages": talk[:count]} for talk in talks] for count in (2, 4, 6)]
    learned, read, learned_too = (measures.loss(libraries, run_dir / "artifact", end) for end in ends)
    figure(f"nats a token: {learned:.3f} and {learned_too:.3f} of weight 1, {read:.2f} of weight 0")
    assert max(learned, learned_too) < 0.2
    assert read > 2
    merged = tmp_path / "merged"
    merged.mkdir()
    write_merged(FinishedModel.at(run_dir), merged, lambda *_: None)
    for directory in (run_dir / "artifact", merged):  # both templates, each a template
        kept = (directory / "additional_chat_templates" / "tool_use.jinja").read_text()
        assert (kept, (directory / "chat_template.jinja").read_text()[:6]) == (trainers.TOOL_USE, "{%- fo")
