"""Whole files: how rows stand in them, how they begin and end, and which format they are in."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.datasets import json_values
from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.model import Message
from shared.datasets.reading import Reading, read_examples

GOOD = '{"messages":[{"role":"user","content":"Q?"},{"role":"assistant","content":"A."}]}'
Write = Callable[[bytes | str], Path]


def outcome(path: Path, limits: Limits | None = None) -> tuple[list[int], list[tuple[str, int | None]]]:
    """The lines of the examples; rule and line of the findings."""
    items = list(read_examples(path, limits))
    examples = [item.line for item in items if isinstance(item, Example)]
    return examples, [(item.rule, item.line) for item in items if isinstance(item, Finding)]


def file(folder: Path, content: bytes | str, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "examples", "findings"),
    [
        ("", [], [("empty_file", None)]),
        ("\n\n", [], [("empty_line", 1), ("empty_line", 2), ("empty_file", None)]),
        ("\ufeff", [], [("bom", 1), ("empty_file", None)]),
        ("\ufeff" + GOOD + "\n", [1], [("bom", 1)]),
        ("\ufeff\ufeff" + GOOD + "\n", [], [("bom", 1), ("json_syntax", 1)]),
        (GOOD, [1], []),
        (f"{GOOD}\n{GOOD}", [1, 2], []),
        (f"{GOOD}\r\n{GOOD}\r\n", [1, 2], [("crlf", 1)]),
        (f"{GOOD}\n{GOOD}\r\n", [1, 2], [("crlf", 2)]),
        (f"{GOOD}\n\r\n{GOOD}\r\n", [1, 3], [("empty_line", 2), ("crlf", 2)]),
        (f"{GOOD}\n{GOOD[:-5]}", [1], [("unclosed_last_line", 2)]),
        (f"{GOOD}\n{GOOD[:-5]}\n", [1], [("json_syntax", 2)]),
        (f"{GOOD}\n{{", [1], [("unclosed_last_line", 2)]),
        (b"\x1f\x8b\x08\0", [], [("compressed", 1)]),
        (gzip.compress(bytes(10**7)), [], [("compressed", 1)]),  # a bomb: it is not unpacked
        (b"PK\x03\x04....", [], [("compressed", 1)]),
        (b"BZh91AY", [], [("compressed", 1)]),
        (b"\xfd7zXZ\0", [], [("compressed", 1)]),
        (b"\x28\xb5\x2f\xfd\0", [], [("compressed", 1)]),
        (b"PAR1\x15", [], [("other_suffix", None), ("broken_parquet", None)]),
        (b"ARROW1\0\0", [], [("not_text", 1)]),
        (b"Obj\x01", [], [("not_text", 1)]),
        (b"SQLite format 3\0", [], [("not_text", 1)]),
        (GOOD.encode("utf-16"), [], [("not_utf8", 1)]),
        (f"[{GOOD},{GOOD}]", [1, 1], []),
        (f"[\n{GOOD},\n{GOOD}\n]\n", [2, 3], []),
        (f" \n [\n\n{GOOD}\n,\n{GOOD}]", [4, 6], []),
        ("[]", [], [("empty_file", None)]),
        ("[ \n ]", [], [("empty_file", None)]),
        (f"[\n{GOOD},\n]", [2], [("json_syntax", 3)]),
        (f"[\n{GOOD},\n,\n{GOOD}]", [2, 4], [("json_syntax", 3)]),
        (f"[\n{GOOD},\nNaN,\n{GOOD}]", [2, 4], [("not_a_number", 3)]),
        (f'[\n{GOOD},\n{{"a":1,\n "a":2}},\n{GOOD}]', [2, 5], [("duplicate_key", 4)]),
        (f"[\n{GOOD},\n17,\n{GOOD}]", [2, 4], [("not_an_object", 3)]),
        (f"[\n{GOOD}\n", [2], [("broken_list", None)]),
        (f"[\n{GOOD},\n{GOOD[:-9]}", [2], [("unclosed_last_line", 3), ("broken_list", None)]),
        (f"[\n{GOOD}]\n]", [2], [("broken_list", None)]),
        (f"[\n{GOOD}]\n{GOOD}", [2], [("broken_list", None)]),
        (f"[1]\n{GOOD}\n", [2], [("not_an_object", 1)]),
    ],
)
def test_how_a_file_begins_and_ends(
    content: bytes | str, examples: list[int], findings: list[tuple[str, int | None]], tmp_path: Path
) -> None:
    assert outcome(file(tmp_path, content)) == (examples, findings)


def test_objects_over_several_lines(tmp_path: Path) -> None:
    pretty = json.dumps(json.loads(GOOD), indent=2)
    assert outcome(file(tmp_path, f"{pretty}\n{pretty}\n", "rows.json")) == ([1, 13], [])
    assert outcome(file(tmp_path, f"[{pretty},\n{pretty}]", "rows.json")) == ([1, 13], [])
    assert outcome(file(tmp_path, f"{pretty}\n{pretty[:-3]}", "rows.json"))[0] == [1]


def test_a_file_that_is_not_there_or_too_large_is_not_read(tmp_path: Path) -> None:
    assert outcome(tmp_path / "none.jsonl") == ([], [("unreadable", None)])
    assert outcome(tmp_path) == ([], [("unreadable", None)])
    assert outcome(file(tmp_path, GOOD), Limits(file_bytes=20)) == ([], [("file_too_large", None)])


def test_a_value_of_a_list_that_is_too_long_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "BLOCK_BYTES", 64)
    long = '{"a":"' + "x\\n" * 500 + '"}'
    path = file(tmp_path, f"[{GOOD},\n{long}\n,\n{GOOD}]")
    assert outcome(path, Limits(line_bytes=200)) == ([1, 4], [("line_too_long", 2)])


def test_one_bad_row_in_a_thousand(tmp_path: Path) -> None:
    bad = random.Random(4).randrange(1000)
    rows = [GOOD] * 1000
    rows[bad] = GOOD[:-4]
    lines, findings = outcome(file(tmp_path, "\n".join(rows) + "\n"))
    assert len(lines) == 999
    assert findings == [("json_syntax", bad + 1)]


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64])
def test_where_a_block_ends_does_not_matter(
    block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = (
        '{"messages":[{"role":"user","content":"\\\\\\"],[{\\u00e9é"},\n{"role":"assistant","content":"A."}]}'
    )
    path = file(tmp_path, f" [\n{row} ,{row}\n]\n")
    whole = list(read_examples(path))
    monkeypatch.setattr(json_values, "BLOCK_BYTES", block_bytes)
    assert list(read_examples(path)) == whole
    assert [item.line for item in whole if isinstance(item, Example)] == [2, 3]


USER, ANSWER = Message("user", "Q?"), Message("assistant", "A.")
CHAT = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]
BAD = Message("assistant", "B.")
BAD_TURN = {"role": "assistant", "content": "B."}
SYSTEM = Message("system", "S.")


@pytest.mark.parametrize(
    ("row", "format", "example"),
    [
        ({"messages": CHAT}, "openai", Example((USER, ANSWER))),
        ({"messages": CHAT, "id": 7}, "openai", Example((USER, ANSWER), metadata={"id": 7})),
        ({"messages": CHAT, "tools": [{"f": 1}]}, "openai", Example((USER, ANSWER), tools=({"f": 1},))),
        (
            {"messages": [CHAT[0], {**CHAT[1], "weight": 0}]},
            "openai",
            Example((USER, Message("assistant", "A.", weight=0))),
        ),
        ({"conversations": CHAT, "system": "S."}, "sharegpt", Example((SYSTEM, USER, ANSWER))),
        (
            {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]},
            "sharegpt",
            Example((USER, ANSWER)),
        ),
        ({"prompt": "Q?", "completion": "A."}, "prompt_completion", Example((USER, ANSWER))),
        ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "prompt_completion", Example((USER, ANSWER))),
        (
            {"prompt": "S.\n\nHuman: Q?\n\nAssistant: B.\n\nHuman: Q?\n\nAssistant:", "completion": " A."},
            "anthropic",
            Example((SYSTEM, USER, BAD, USER, ANSWER)),
        ),
        ({"prompt": "Q?", "completion": "A.", "label": False}, "kto", Example((USER, ANSWER), label=False)),
        ({"instruction": "Q?", "input": "", "output": "A."}, "alpaca", Example((USER, ANSWER))),
        (
            {"instruction": "Q?", "output": "A.", "history": [["Q?", "B."]], "system": "S."},
            "alpaca",
            Example((SYSTEM, USER, BAD, USER, ANSWER)),
        ),
        ({"question": "Q?", "answer": "A."}, "question_answer", Example((USER, ANSWER))),
        (
            {"text": "<|im_start|>user\nQ?<|im_end|>\n<|im_start|>assistant\nA.<|im_end|>\n"},
            "chatml",
            Example((USER, ANSWER)),
        ),
        ({"prompt": "Q?", "chosen": "A.", "rejected": "B."}, "dpo", Example((USER, ANSWER), (BAD,))),
        ({"chosen": CHAT, "rejected": [CHAT[0], BAD_TURN]}, "dpo", Example((USER, ANSWER), (BAD,))),
        (
            {"prompt": "Q?", "chosen": CHAT, "rejected": [CHAT[0], BAD_TURN]},
            "dpo",
            Example((USER, ANSWER), (BAD,)),
        ),
        (
            {
                "input": {"messages": CHAT[:1]},
                "preferred_output": CHAT[1:],
                "non_preferred_output": [BAD_TURN],
            },
            "openai_preference",
            Example((USER, ANSWER), (BAD,)),
        ),
        (
            {
                "conversations": [{"from": "human", "value": "Q?"}],
                "chosen": {"from": "gpt", "value": "A."},
                "rejected": {"from": "gpt", "value": "B."},
            },
            "sharegpt_preference",
            Example((USER, ANSWER), (BAD,)),
        ),
    ],
)
def test_each_format_is_told_and_read(
    row: dict[str, object], format: str, example: Example, tmp_path: Path
) -> None:
    reading = Reading(file(tmp_path, json.dumps(row)), Limits(), {})
    assert list(reading) == [example]
    assert reading.detected is not None
    assert reading.detected.format == format
    assert reading.detected.evidence.endswith(" in 1 of the first 1 rows")


def test_what_is_changed_in_reading_is_said(tmp_path: Path) -> None:
    alpaca = {"instruction": "Q?", "input": "I", "output": "A."}
    assert outcome(file(tmp_path, json.dumps(alpaca))) == ([1], [("input_joined", 1)])
    developer = {"messages": [{"role": "developer", "content": "S."}, *CHAT]}
    assert outcome(file(tmp_path, json.dumps(developer))) == ([1], [("developer_role", 1)])


@pytest.mark.parametrize("value", [5, "text", None, True, {}, [1], [[]], [None]])
def test_a_column_of_another_format_is_only_kept(value: object, tmp_path: Path) -> None:
    row = {"question": "Q?", "answer": "A.", "input": value, "prompt": value, "chosen": value}
    (read,) = read_examples(file(tmp_path, json.dumps(row)))
    assert read == Example((USER, ANSWER), metadata={"input": value, "prompt": value, "chosen": value})
