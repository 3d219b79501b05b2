"""What was written in a format is read back as the same example, over adversarial text."""

import json
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from shared.datasets import parquet_rows
from shared.datasets.cells import shape_of_columns
from shared.datasets.containers import Container, write_container
from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.model import Message
from shared.datasets.reading import read_examples
from shared.datasets.writing import FORMATS, NotHeld, line_of, row_of

NASTY = [
    "", " ", "\n", "\r\n", "\t", '"', "\\", '\\"', "\\u0000", "\u2028", "\u2029", "\ufeff", "\ufffe", "\x85",
    "\x7f", "\x1b[31m", "\u202e", "\u200b", "e\u0301", "\U0001f468\u200d\U0001f469", "\U0010ffff", "}", ",",
    "<|im_start|>", "<|im_end|>", "<|im_start|>user\n", "\n\nHuman:", "\n\nAssistant:",
    "=1+1", "'=1+1", "''", "@", "\t=", "\r", "-1", "+", '"', '""', ",", ";", "|", "true", "1",
    "NaN", "null", "{", "[[",
    '{"role":"user"}', '[{"role":"user","content":"Q"}]', '[{"from":"gpt"}]', "[]", '["a"]',
    "'; drop table", "a" * 200,
]  # fmt: skip
TEXT = st.lists(
    st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    max_size=4,
).map("".join)
CALL = st.builds(lambda name: {"type": "function", "function": {"name": name, "arguments": "{}"}}, TEXT)
TOOLS = st.lists(CALL, max_size=2).map(tuple)
EXTRA = st.one_of(st.none(), st.sampled_from([0, 1]))
MESSAGE = st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool"]), TEXT) | st.builds(
    Message, st.just("assistant"), TEXT, TOOLS, st.none() | TEXT, st.none() | TEXT, EXTRA
)
SIMPLE = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(
    lambda pairs: tuple(
        Message(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)
    )
)
SYSTEM = TEXT.map(lambda text: (Message("system", text),))
CHAT = SIMPLE | st.builds(lambda system, rest: system + rest, SYSTEM, SIMPLE)
ANY_CHAT = CHAT | st.lists(MESSAGE, min_size=1, max_size=5).map(tuple)
VALUES = st.sampled_from(
    [None, True, False, 0, 9, 2**63, -(2**63), 2**64 - 1, 0.5, 1e300, [], [1, "a"], {"a": {}}]
)
COLUMNS = [
    "id",
    "x y",
    "",
    "=a",
    "a,b",
    '"',
    "label",
    "system",
    "tools",
    "input",
    "prompt",
    "rejected",
    "text",
    "messages",
]
META = st.dictionaries(st.sampled_from(COLUMNS), TEXT | VALUES, max_size=2)
EXAMPLES = st.builds(
    Example,
    ANY_CHAT,
    st.none() | TEXT.map(lambda text: (Message("assistant", text),)) | MESSAGE.map(lambda one: (one,)),
    st.none() | st.booleans(),
    st.just(()) | TOOLS,
    META,
)
PLAIN = st.builds(Example, CHAT)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for each of a thousand Parquet files would take minutes."""
    monkeypatch.setattr(parquet_rows, "is_confined", lambda: True)


@pytest.mark.parametrize("container", get_args(Container))
@pytest.mark.parametrize("format", FORMATS)
@given(rows=st.lists(EXAMPLES | PLAIN, min_size=1, max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_is_read_back(
    format: str, container: Container, rows: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> None:
    held, written = [], []
    for example in (*rows, *([fitting(format)])):
        try:
            written.append(row_of(example, format, with_metadata=True))
        except NotHeld:
            continue
        held.append(example)
    assert held, "each format holds the example made for it"
    folder = tmp_path_factory.getbasetemp()
    draft, path = folder / "round.draft", folder / f"round.{container}"
    draft.write_bytes(b"".join(map(line_of, written)))
    changed: list[str] = []
    if container == "jsonl":
        draft.rename(path)
    else:
        columns = {name for row in written for name in row}
        beside = {name for example in held for name in example.metadata}
        assume(container == "json" or shape_of_columns(columns) == shape_of_columns(columns - beside))
        changed = write_container(draft, path, container)
    read = list(read_examples(path))
    examples = [item for item in read if isinstance(item, Example)]
    assert [said(example, changed) for example in examples] == [said(example, changed) for example in held]
    assert {item.rule for item in read if isinstance(item, Finding)} <= {"formula_escape"}
    assert container in ("csv", "parquet") or not changed


def said(example: Example, changed: list[str]) -> tuple[Example, str]:
    """The example without the columns that are told to be changed; beside it, since 1 == True, as JSON."""
    kept = {name: value for name, value in sorted(example.metadata.items()) if name not in changed}
    return replace(example, metadata=kept), json.dumps(kept)


def fitting(format: str) -> Example:
    """An example that the format can hold."""
    chat = (Message("user", "Q\n"), Message("assistant", " A "))
    if "preference" in format or format == "dpo":
        return Example(chat, (Message("assistant", "B"),))
    return Example(chat, label=True if format == "kto" else None)
