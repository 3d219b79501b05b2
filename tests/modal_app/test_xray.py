"""The X-ray shows what the trainer trains, token by token, with the tokenizer of a real directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modal_app import hardware
from modal_app.methods.data import TrainingRows, read_conversations, tokenise
from modal_app.session.directory import RunDirectory
from modal_app.session.failures import RunFailed
from modal_app.session.reporter import Reporter
from modal_app.session.stop import StopSignal
from modal_app.task import Task
from modal_app.tiny import tiny_base
from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.examples import Example
from shared.datasets.loss_mask import IGNORED, PLAIN_TEMPLATE
from shared.datasets.reading import read_examples
from shared.datasets.training_rows import Conversation
from shared.datasets.writing import row_of
from shared.datasets.xray import RowXray, xray
from tests.modal_app import trainers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LIMIT_TOKENS = 120
# As families of models write them: each is rendered by transformers and by us.
TEMPLATES = {
    "own": None,
    "tool use": None,
    "plain": PLAIN_TEMPLATE,
    "no end": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    "shifts": "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}",
    "trims": """{%- set ns = namespace(system='', first=true) -%}
    {%- for m in messages if m.role == 'system' %}{% set ns.system = m.content %}{% endfor -%}
    {{- bos_token + ns.system | trim }}
    {%- for m in messages %}
        {%- if m['role'] == 'system' %}{% continue %}{% endif %}
        {{- '<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>\n' }}
        {%- set ns.first = false %}
    {%- endfor %}
    {%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
    "json": "{% for m in messages %}{{m|tojson}}{{ dict(a=1)|tojson(indent=1) }}{% endfor %}{{ pad_token }}",
}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "First."},
    {"role": "user", "content": "Größe — 日本語 🐝?"},
    {"role": "assistant", "content": " Zwei 🐝 <|im_end|> <b>\n"},
]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}],
}
CALLED = [*TALK[1:2], CALL, {"role": "tool", "content": "2"}, *TALK[2:]]
FILES: dict[str, list[dict[str, Any]]] = {
    "chat": [
        {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]},
        {"messages": [{"role": "user", "content": "Nothing?"}, {"role": "assistant", "content": ""}]},
    ],
    "prompt and completion": [
        {"prompt": "When is the harvest?", "completion": "In late August."},
        {"prompt": "Where?", "completion": "word " * 200},
    ],
    "several turns": [{"messages": TALK}, {"messages": TALK[1:]}, {"messages": TALK[1:3]}],
    "weights": [
        {"messages": [*TALK[1:2], {**TALK[2], "weight": first}, TALK[3], {**TALK[4], "weight": second}]}
        for first, second in ((0, 1), (1, 0), (1, 1), (0, 0), (None, 1), (1, None))
    ],
    "tools": [
        {
            "messages": [{**CALLED[1], "weight": weight} if one is CALL else one for one in CALLED],
            "tools": tools,
        }
        for weight, tools in ((0, [{"f": 1}]), (1, [{"f": 1}]), (None, [{"f": 1}]), (1, []))
    ],
    "too long": [
        {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "word " * 200}]},
        {"messages": [{"role": "user", "content": "word " * 200}, {"role": "assistant", "content": "No."}]},
        {"messages": TALK},
    ],
}


@dataclass
class Model:
    directory: Path
    tokenizer: PreTrainedTokenizerBase
    xray: BaseTokenizer


@pytest.fixture(scope="module", params=TEMPLATES)
def model(
    request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    """The tiny base with a template of each kind, as a directory that both sides load."""
    from transformers import AutoTokenizer  # imports torch: not while tests are collected

    directory = tmp_path_factory.mktemp("base")
    for file in tiny_base(data_dir).glob("*.json*"):
        (directory / file.name).write_bytes(file.read_bytes())
    template = TEMPLATES[request.param]
    own = (tiny_base(data_dir) / "chat_template.jinja").read_text()
    if request.param != "plain":  # left to what a base model without a template gets
        (directory / "chat_template.jinja").write_text(template or own)
    if request.param == "tool use":
        trainers.add_tool_use(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE  # as `base.load` does
    with BaseTokenizer(directory) as ours:
        yield Model(directory, tokenizer, ours)


def _trained(model: Model, file: Path) -> tuple[TrainingRows, list[int]]:
    """What the trainer makes of the rows, from the file that it would be given; and which it refuses."""
    rows = [row for row in read_examples(file) if isinstance(row, Example)]
    given = file.with_name("train.jsonl")
    given.write_text("".join(json.dumps(row_of(row, "openai")) + "\n" for row in rows))
    real, refused = TrainingRows(), []
    limits: dict[str, Any] = {"max_length_tokens": LIMIT_TOKENS, "stop_ids": {model.tokenizer.eos_token_id}}
    for number, row in read_conversations(given):
        try:
            one = tokenise([(number, row)], model.tokenizer, **limits)
        except RunFailed:
            refused.append(number)
            continue
        real.rows += one.rows
        real.too_long += one.too_long
        real.teach_nothing += one.teach_nothing
    return real, refused


@pytest.mark.parametrize("kind", FILES)
def test_every_token_has_the_trainers_label(model: Model, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in FILES[kind]))
    rows = [row for row in read_examples(file) if isinstance(row, Example)]
    assert len(rows) == len(FILES[kind])
    seen = list(xray(rows, model.xray, limit=LIMIT_TOKENS, rows_in_full=len(rows)))
    used = [row for row in seen if row.is_used]
    real, refused = _trained(model, file)
    assert [row.line for row in seen if row.is_refused] == refused
    left_out = [row.line for row in seen if not row.is_used and not row.is_refused]
    assert left_out == sorted(real.too_long + real.teach_nothing)
    assert [[token.id for token in row.tokens] for row in used] == [row["input_ids"] for row in real.rows]
    assert [list(row.labels) for row in used] == [row["labels"] for row in real.rows]
    for row in used:
        states = ["masked" if label == IGNORED else "trained" for label in row.labels]
        assert [token.state for token in row.tokens] == states
    _assert_totals(seen, real)
    measured = list(xray(rows, model.xray, limit=LIMIT_TOKENS))
    assert measured == [replace(row, labels=(), tokens=()) for row in seen]


def _assert_totals(seen: list[RowXray], real: TrainingRows) -> None:
    learned = sum(label != IGNORED for row in real.rows for label in row["labels"])
    assert sum(row.trained_tokens for row in seen) == learned
    assert sum(row.masked_tokens for row in seen) == sum(len(row["labels"]) for row in real.rows) - learned
    for row in seen:
        if not row.is_used:
            assert row.reason is not None
            assert {token.state for token in row.tokens} <= {"left_out"}


@pytest.mark.parametrize("changes", [{}, {"generation_config.json": {"eos_token_id": [2, 0]}}])
def test_the_end_and_the_limit_are_the_trainers(
    data_dir: Path, tmp_path: Path, changes: dict[str, dict[str, Any]]
) -> None:
    from modal_app.base import load

    base = tmp_path / "base"
    shutil.copytree(tiny_base(data_dir), base)
    for name, content in changes.items():
        (base / name).write_text(json.dumps(content))
    loaded = load(str(base), None, dtype=hardware.weights_dtype("full"))
    with BaseTokenizer(base) as ours:
        assert ours.stop_ids == loaded.stop_ids
        assert ours.eos_id == loaded.tokenizer.eos_token_id
        assert set(loaded.tokenizer.all_special_ids) <= ours.special_ids
        assert ours.context_length_tokens == loaded.context_length_tokens
        assert ours.has_own_template == loaded.has_own_template


def test_tokens_that_only_the_configuration_names_get_the_same_ids(data_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = tmp_path / "base"
    shutil.copytree(tiny_base(data_dir), base)
    config = json.loads((base / "tokenizer_config.json").read_text())
    config |= {"eos_token": "<|eot|>", "extra_special_tokens": ["<|think|>"], "unk_token": "<|unk|>"}
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = AutoTokenizer.from_pretrained(base)
    talk = [{"role": "user", "content": "<|think|> <|unk|>"}, {"role": "assistant", "content": "<|eot|> b"}]
    with BaseTokenizer(base) as ours:
        assert ours.eos_id == theirs.eos_token_id
        whole = theirs.apply_chat_template(talk, tokenize=True, return_dict=True)["input_ids"]
        assert (
            ours.row(Conversation(talk)).ids == whole[:-1]
        )  # without the line break after the end of the turn


def _write_batches(run_dir: Path, target: Path) -> None:
    """What TRL hands to the model in an epoch: the labels of each row, without what fills a line."""
    from transformers import TrainerCallback

    from modal_app.base import load
    from modal_app.methods.sft import build_trainer

    directory = RunDirectory(run_dir)
    spec, stop = directory.spec(), StopSignal(directory.cancel_file)
    task = Task(spec, run_dir / "train.jsonl", None, directory, Reporter(directory, spec, stop), stop)
    base = load(spec.base_model, None, dtype=hardware.weights_dtype(spec.method))
    data = tokenise(
        read_conversations(task.dataset),
        base.tokenizer,
        max_length_tokens=LIMIT_TOKENS,
        stop_ids=base.stop_ids,
    )
    trainer = build_trainer(task, base, data, None, [TrainerCallback()], rows_at_once=4)
    rows = []
    for batch in trainer.get_train_dataloader():
        if "position_ids" in batch:
            rows += _unpacked(batch)
        else:
            for labels, is_read in zip(batch["labels"], batch["attention_mask"], strict=True):
                rows.append(labels[is_read.bool()].tolist())
    target.write_text(json.dumps(rows))


def _unpacked(batch: dict[str, Any]) -> list[list[int]]:
    """The labels of each row of a packed batch. A row begins where position 0 stands before position 1."""
    rows: list[list[int]] = []
    for labels, positions in zip(batch["labels"].tolist(), batch["position_ids"].tolist(), strict=True):
        for place, (label, position) in enumerate(zip(labels, positions, strict=True)):
            if position == 0 and positions[place + 1 : place + 2] == [1]:
                rows.append([])
            if position or positions[place + 1 : place + 2] == [1]:
                rows[-1].append(label)
    return rows


@pytest.mark.parametrize("packing", [False, True])
def test_the_model_is_given_the_labels_of_the_xray(
    libraries: ForkServerContext, new_run: Callable[..., Path], data_dir: Path, tmp_path: Path, packing: bool
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base(data_dir), base)
    trainers.add_tool_use(base)
    run_dir = new_run([("Where?", "There.")], base_model=str(base), packing=packing, batch_size=4)
    rows = [row for kind in FILES.values() for row in kind if "messages" in row and row.get("tools") != []]
    (run_dir / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = libraries.Process(target=_write_batches, args=(run_dir, tmp_path / "batches.json"))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    examples = [row for row in read_examples(run_dir / "train.jsonl") if isinstance(row, Example)]
    with BaseTokenizer(base) as ours:
        seen = list(xray(examples, ours, limit=LIMIT_TOKENS, rows_in_full=len(rows)))
    used = [list(row.labels) for row in seen if row.is_used]
    assert len(used) == len(rows) - 3  # two are too long, one has weight 0 alone
    assert sorted(json.loads((tmp_path / "batches.json").read_text())) == sorted(used)
