"""The X-ray against the trainer, token by token, under the templates of the models that people tune.

TRL ships the published templates; Mistral's, which it does not, is written here from its public form. Their
special tokens are added to the tiny tokenizer, so that each of them is one token, as in its own model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modal_app.methods.data import read_messages, tokenise
from modal_app.session.failures import RunFailed
from shared.datasets.base_tokenizer import BaseTokenizer
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
ROWS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [USER, ANSWER]},
    "system": {"messages": [SYSTEM, USER, ANSWER]},
    "turns": {"messages": [SYSTEM, USER, ANSWER, {"role": "user", "content": " And\nwho? "}, ANSWER]},
    "weights": {"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}]},
    "tools": {"messages": [USER, CALL, FOUND, ANSWER], "tools": [TOOL]},
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


@pytest.fixture(params=FAMILIES)
def model(
    request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> Iterator[tuple[PreTrainedTokenizerBase, BaseTokenizer]]:
    """The trainer's tokenizer and ours, under the template of a family."""
    template = template_of(request.param)
    tokenizer.chat_template = template
    tokenizer.eos_token = next((end for end in ENDS if end in template), "<|im_end|>")
    tokenizer.save_pretrained(tmp_path)
    with BaseTokenizer(tmp_path) as ours:
        yield tokenizer, ours


def _trained(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], file: Path) -> dict[str, Any] | str:
    """Tokens and labels of the row in the trainer; or what it does with the row instead."""
    file.write_text(json.dumps(row) + "\n")
    try:
        stop_ids = {int(tokenizer.eos_token_id)}  # type: ignore[arg-type] # one id, not a list
        rows = tokenise(read_messages(file), tokenizer, max_length_tokens=LIMIT_TOKENS, stop_ids=stop_ids)
    except RunFailed as failed:
        return failed.code
    return dict(rows.rows[0]) if rows.rows else "too long"


def test_every_token_has_the_trainers_label(
    model: tuple[PreTrainedTokenizerBase, BaseTokenizer], tmp_path: Path
) -> None:
    theirs, ours = model
    given = tmp_path / "rows.jsonl"
    given.write_text("".join(json.dumps(row) + "\n" for row in ROWS.values()))
    examples = list(read_examples(given))
    seen = list(xray(examples, ours, limit=LIMIT_TOKENS, rows_in_full=len(ROWS)))  # type: ignore[arg-type]
    assert len(seen) == len(ROWS)
    kinds = set()
    for (kind, row), found in zip(ROWS.items(), seen, strict=True):
        real = _trained(theirs, row, tmp_path / "train.jsonl")
        kinds.add(real if isinstance(real, str) else "trained")
        assert _xrayed(found) == real, kind
    assert {"trained", "too long"} <= kinds


def _xrayed(found: RowXray) -> dict[str, Any] | str:
    if found.is_refused:
        return "template_refused_row"
    if not found.is_used:
        return "too long"
    assert found.trained_tokens == sum(token.state == "trained" for token in found.tokens)
    return {"input_ids": [token.id for token in found.tokens], "labels": list(found.labels)}
