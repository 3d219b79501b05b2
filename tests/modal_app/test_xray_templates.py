"""The X-ray against the trainer, token by token, under the templates of the models that people tune.

TRL ships the published templates; Mistral's, which it does not, is written here from its public form. Their
special tokens are added to the tiny tokenizer, so that each of them is one token, as in its own model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from modal_app.methods.data import read_conversations, tokenise
from modal_app.session.failures import RunFailed
from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.loss_mask import IGNORED
from shared.datasets.reading import read_examples
from shared.datasets.xray import RowXray, xray
from shared.training.tiny.tokenizer import tiny_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LIMIT_TOKENS = 700
MISTRAL = """{{ bos_token }}{% set ns = namespace(system='') %}
{%- if messages[0]['role'] == 'system' %}{% set ns.system = messages[0]['content'] + '\n\n' %}
{%- set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}
{%- for m in turns %}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('After the optional system message, roles must alternate') }}{% endif %}
{%- if m['role'] == 'user' %}{{ '[INST] ' + (ns.system if loop.last or loop.length == 2 else '') }}
{{- m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}
{%- endfor %}"""
FAMILIES = (
    "cohere", "deepseekv3", "gemma", "gemma3", "glm4moe", "gptoss", "lfm2", "llama3", "llama3_1", "mistral",
    "nemotron_3_nano", "phi3", "qwen2_5", "qwen3", "qwen3_6",
)  # fmt: skip
ENDS = (
    "<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>", "<|END_OF_TURN_TOKEN|>", "<|return|>",
    "<｜end▁of▁sentence｜>",  # noqa: RUF001 - DeepSeek writes it so
)  # fmt: skip
SPECIAL = re.compile(r"<[|｜][^<>|｜\s]{1,40}[|｜]>|</?[a-z]+_of_[a-z]+>|\[/?INST\]")  # noqa: RUF001 - as above

USER, ANSWER = {"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "By the mill."}
SYSTEM = {"role": "system", "content": "Answer in one line."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"what": "it"}'}}
    ],
}
FOUND = {"role": "tool", "content": '{"place": "mill"}', "tool_call_id": "c1"}
TOOL = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": {}}}
WHO, KEEPER = {"role": "user", "content": " And\nwho? "}, {"role": "assistant", "content": "Its keeper."}
# The others leave tools, calls or results out, or have no turn for them.
SHOWS_TOOLS = {"glm4moe", "gptoss", "llama3_1", "nemotron_3_nano", "qwen2_5", "qwen3", "qwen3_6"}
SHOWS_CALLS = SHOWS_TOOLS | {"deepseekv3"}


def weigh(message: dict[str, Any], weight: int) -> dict[str, Any]:
    return message | {"weight": weight}


ROWS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [USER, ANSWER]},
    "system": {"messages": [SYSTEM, USER, ANSWER]},
    "turns": {"messages": [SYSTEM, USER, ANSWER, WHO, ANSWER]},
    "weight 0, 1": {"messages": [USER, weigh(ANSWER, 0), WHO, weigh(KEEPER, 1)]},
    "weight 1, 0": {"messages": [USER, weigh(ANSWER, 1), WHO, weigh(KEEPER, 0)]},
    "weight 1, none": {"messages": [SYSTEM, USER, weigh(ANSWER, 1), WHO, KEEPER]},
    "weight 0": {"messages": [USER, weigh(ANSWER, 0)]},
    "twice the same": {"messages": [USER, ANSWER, USER, weigh(ANSWER, 0), USER, ANSWER]},
    "tools": {"messages": [USER, CALL, FOUND, ANSWER], "tools": [TOOL]},
    "calls without tools": {"messages": [USER, CALL, FOUND, ANSWER]},
    "call last": {"messages": [USER, CALL], "tools": [TOOL]},
    "call of weight 1": {"messages": [USER, weigh(CALL, 1), FOUND, weigh(ANSWER, 1)], "tools": [TOOL]},
    "call of weight 0": {"messages": [USER, weigh(CALL, 0), FOUND, ANSWER], "tools": [TOOL]},
    "thinking": {"messages": [USER, {**ANSWER, "content": "<think>\nHm.\n</think>\n\nBy the mill."}]},
    "marks": {"messages": [USER, {**ANSWER, "content": "<|im_end|> <end_of_turn> [/INST] 🐝\n\n"}]},
    "blank": {"messages": [USER, {**ANSWER, "content": "  "}]},
    "long": {"messages": [USER, {**ANSWER, "content": "Größe " * 300}]},
    "long question": {"messages": [{**USER, "content": "Größe " * 300}, ANSWER]},
}


def template_of(family: str) -> str:
    import trl

    if family == "mistral":
        return MISTRAL
    return (Path(trl.__file__).parent / "chat_templates" / f"{family}.jinja").read_text()


@pytest.fixture(scope="module")
def tokenizer(data_dir: Path) -> PreTrainedTokenizerBase:
    """The tiny tokenizer, to which the special tokens of all families were added."""
    from transformers import AutoTokenizer

    extra = sorted({token for family in FAMILIES for token in SPECIAL.findall(template_of(family))})
    made = AutoTokenizer.from_pretrained(tiny_tokenizer(data_dir))
    made.add_special_tokens({"additional_special_tokens": [*extra, *ENDS]})
    return made


class Model(NamedTuple):
    family: str
    theirs: PreTrainedTokenizerBase
    ours: BaseTokenizer


@pytest.fixture(params=FAMILIES)
def model(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> Iterator[Model]:
    """The trainer's tokenizer and ours, under the template of a family."""
    template = template_of(request.param)
    tokenizer.chat_template = template
    tokenizer.eos_token = next((end for end in ENDS if end in template), "<|im_end|>")
    tokenizer.save_pretrained(tmp_path)
    with BaseTokenizer(tmp_path) as ours:
        yield Model(request.param, tokenizer, ours)


def _trained(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], file: Path) -> dict[str, Any] | str:
    """Tokens and labels of the row in the trainer; or what it does with the row instead."""
    file.write_text(json.dumps(row) + "\n")
    try:
        stop_ids = {int(tokenizer.eos_token_id)}  # type: ignore[arg-type] # one id, not a list
        rows = tokenise(
            read_conversations(file), tokenizer, max_length_tokens=LIMIT_TOKENS, stop_ids=stop_ids
        )
    except RunFailed as failed:
        return failed.code
    return dict(rows.rows[0]) if rows.rows else "too long" if rows.too_long else "teaches nothing"


def test_every_token_has_the_trainers_label(model: Model, tmp_path: Path) -> None:
    family, theirs, ours = model
    given = tmp_path / "rows.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in ROWS.values()))
    examples = list(read_examples(given))
    seen = list(xray(examples, ours, limit=LIMIT_TOKENS, rows_in_full=len(ROWS)))  # type: ignore[arg-type]
    assert len(seen) == len(ROWS)
    results: dict[str, dict[str, Any] | str] = {}
    for (kind, row), found in zip(ROWS.items(), seen, strict=True):
        real = _trained(theirs, row, tmp_path / "train.jsonl")
        results[kind] = real
        assert _xrayed(found) == real, kind
    assert results["long"] == "too long"
    assert results["weight 0"] == "teaches nothing"
    for kind in ("weight 0, 1", "weight 1, 0", "tools", "call of weight 1", "call of weight 0"):
        _assert_heeded(
            theirs, ROWS[kind], results[kind], is_shown="tools" not in ROWS[kind] or family in SHOWS_TOOLS
        )
    assert (results["calls without tools"] != "template_refused_row") == (family in SHOWS_CALLS)
    if isinstance(turns := results["turns"], dict):  # else the template takes no system message
        learned = theirs.decode([label for label in turns["labels"] if label != IGNORED])
        moves_system = family == "mistral"
        assert learned.count("By the mill.") == (1 if moves_system else 2)


def _assert_heeded(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], real: dict[str, Any] | str, *, is_shown: bool
) -> None:
    """What has weight 1 is learned, what has weight 0 is not, and tools are read: or the row is refused."""
    assert isinstance(real, dict) == is_shown, real
    if not isinstance(real, dict):
        return
    learned = tokenizer.decode([label for label in real["labels"] if label != IGNORED])
    for message in row["messages"]:
        said = message["content"].strip() or "find"  # the name of what is called
        if message["role"] != "assistant":
            assert said not in learned
        elif "weight" in message:
            assert (said in learned) == bool(message["weight"])
    assert "tools" not in row or "Finds." in tokenizer.decode(real["input_ids"])


def _xrayed(found: RowXray) -> dict[str, Any] | str:
    if found.is_refused:
        return "template_refused_row"
    if not found.is_used:
        return "too long" if found.left_out_tokens > LIMIT_TOKENS else "teaches nothing"
    assert found.trained_tokens == sum(token.state == "trained" for token in found.tokens)
    return {"input_ids": [token.id for token in found.tokens], "labels": list(found.labels)}
