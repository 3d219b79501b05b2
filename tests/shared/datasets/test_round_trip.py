"""What was written in a format is read back as the same example, over adversarial text."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.datasets.examples import Example
from shared.datasets.model import Message
from shared.datasets.reading import read_examples
from shared.datasets.writing import FORMATS, NotHeld, line_of, row_of

NASTY = [
    "", " ", "\n", "\r\n", "\t", '"', "\\", '\\"', "\\u0000", "\u2028", "\u2029", "\ufeff", "\ufffe", "\x85",
    "\x7f", "\x1b[31m", "\u202e", "\u200b", "e\u0301", "\U0001f468\u200d\U0001f469", "\U0010ffff", "}", ",",
    "<|im_start|>", "<|im_end|>", "<|im_start|>user\n", "\n\nHuman:", "\n\nAssistant:",
    "=1+1", "NaN", "null", "{", "[[",
    '{"role":"user"}', "'; drop table", "a" * 200,
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
COLUMNS = ["id", "x y", "", "label", "system", "tools", "input", "prompt", "rejected", "text", "messages"]
META = st.dictionaries(st.sampled_from(COLUMNS), TEXT | st.integers(0, 9) | st.booleans(), max_size=2)
EXAMPLES = st.builds(
    Example,
    ANY_CHAT,
    st.none() | TEXT.map(lambda text: (Message("assistant", text),)) | MESSAGE.map(lambda one: (one,)),
    st.none() | st.booleans(),
    st.just(()) | TOOLS,
    META,
)
PLAIN = st.builds(Example, CHAT)


@pytest.mark.parametrize("format", FORMATS)
@given(rows=st.lists(EXAMPLES | PLAIN, min_size=1, max_size=3))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_is_read_back(
    format: str, rows: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> None:
    held, lines = [], []
    for example in (*rows, *([fitting(format)])):
        try:
            lines.append(line_of(row_of(example, format, with_metadata=True)))
        except NotHeld:
            continue
        held.append(example)
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    path.write_bytes(b"".join(lines))
    assert list(read_examples(path)) == held
    assert held, "each format holds the example made for it"


def fitting(format: str) -> Example:
    """An example that the format can hold."""
    chat = (Message("user", "Q\n"), Message("assistant", " A "))
    if "preference" in format or format == "dpo":
        return Example(chat, (Message("assistant", "B"),))
    return Example(chat, label=True if format == "kto" else None)
