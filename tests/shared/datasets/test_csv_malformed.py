"""Every way we know to spoil a CSV file: what is said about it, and where. The other rows are read."""

from pathlib import Path
from typing import NamedTuple

import pytest

from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.reading import Reading, read_examples
from tests.conftest import Figure

HEADER, GOOD = b"question,answer", b"Q?,A."
LIMITS = Limits(line_bytes=2**10, depth=8, keys=12, messages=6)
ESCAPE = "formula_escape"
MESSAGES = b'"[{""role"":""user"",""content"":""Q?""},{""role"":""assistant"",""content"":%s}]"'


# Headers and good records of other formats.
CHATS = (b"messages", MESSAGES % b'""A.""')
HISTORIES = (b"instruction,output,history", b"Q?,A.,")
TOOLS = (b"prompt,completion,tools", b"Q?,A.,[]")
PROMPTS = (b"prompt,completion", b"Q?,A.")
LABELS = (b"prompt,completion,label", b"Q?,A.,True")
PREFERENCES = (b"prompt,chosen,rejected", b"Q?,A.,B.")


class Case(NamedTuple):
    name: str
    record: bytes  # put on line 3, between two good rows
    rule: str | None  # None: nothing is found
    column: int | None = None
    header: bytes = HEADER
    good: bytes = GOOD


def chat(name: str, answer: bytes, rule: str | None) -> Case:
    """A case of messages as JSON text in a cell."""
    return Case(name, MESSAGES % answer, rule, None, *CHATS)


CASES = [
    # Records that are not as wide as the header.
    Case("a field too few", b"Q?", "ragged_row"),
    Case("a field too many", b"Q?,A.,more", "ragged_row"),
    Case("a delimiter at the end", b"Q?,A.,", "ragged_row"),
    Case("delimiters alone", b",,,", "ragged_row"),
    Case("another delimiter", b"Q?;A.", "ragged_row"),
    Case("a comma that should be quoted", b"Well, who?,A.", "ragged_row"),
    Case("quoted fields, one too many", b'"Q?","A.","more"', "ragged_row"),
    Case("a line of blanks", b" \t", "empty_line"),
    Case("an empty line", b"", "empty_line"),
    Case("a CR alone on a line", b"\r", "empty_line"),
    # Quotation marks.
    Case("text behind a quoted field", b'"Q"?,A.', "stray_quote", 4),
    Case("text behind the last field", b'Q?,"A".', "stray_quote", 7),
    Case("a blank behind a quoted field", b'"Q?" ,A.', "stray_quote", 5),
    Case("a blank before a quoted field", b'Q?, "A."', "stray_quote", 4),
    Case("marks escaped by a backslash", rb'"say \"hi\"",A.', "stray_quote", 8),
    Case("a mark that opens and never closes", b'Q?,"A.', "open_quote", 4),
    Case("the first field opens", b'"Q?,A.', "open_quote", 1),
    Case("a mark too many at the end", b'Q?,"A.""', "open_quote", 4),
    Case("three marks", b'Q?,"""', "open_quote", 4),
    Case("a mark alone", b'"', "open_quote", 1),
    Case("a mark within a field without any", b'5" pipe,a 6" pipe', None),
    Case("marks written twice", b'"say ""hi""","""A"""', None),
    Case("a delimiter within marks", b'"Q, R","A, B"', None),
    # Bytes.
    Case("a NUL", b"Q\0?,A.", "nul", 2),
    Case("a NUL within marks", b'"Q?","A\0"', "nul", 8),
    Case("nothing but NULs", b"\0\0\0", "nul", 1),
    Case("a byte of Latin-1", b"Caf\xe9?,A.", "bad_utf8", 4),
    Case("a quotation mark of Windows", b"\x93Q?\x94,A.", "bad_utf8", 1),
    Case("a byte that is never UTF-8", b"Q?,\xff", "bad_utf8", 4),
    Case("an overlong slash", b"Q?,\xc0\xaf", "bad_utf8", 4),
    Case("a surrogate in UTF-8", b"Q?,\xed\xa0\x80", "bad_utf8", 4),
    Case("a character cut off", b"Q?,\xe2\x82", "bad_utf8", 4),
    Case("beyond the last character", b"Q?,\xf4\x90\x80\x80", "bad_utf8", 4),
    Case("a BOM on a later line", b"\xef\xbb\xbfQ?,A.", None),
    Case("control characters", b"Q\x1b?,A\x07", None),
    Case("a separator of Unicode", "Q\u2028?,A\x85".encode(), None),
    # Size.
    Case("a field that is too long", b"Q?," + b"a" * 2000, "line_too_long"),
    Case("many fields that are too long together", b"a," * 1000, "line_too_long"),
    # JSON in cells.
    chat("a good one", b'""B.""', None),
    chat("an open string", b'""B.', "json_syntax"),
    chat("NaN", b"NaN", "not_a_number"),
    chat("an escaped NUL", rb'""\u0000""', "nul"),
    chat("half a surrogate pair", rb'""\ud800""', "lone_surrogate"),
    chat("a key twice", b'""B."",""content"":""C.""', "duplicate_key"),
    chat("too deep", b"[" * 9 + b"]" * 9, "too_deep"),
    chat("a huge integer", b'""B."",""weight"":18446744073709551616', "huge_integer"),
    chat("no content", b"null", "content_missing"),
    chat("content that is a number", b"1", "not_text"),
    chat("content in parts", b"[1]", "content_parts"),
    chat("a message key that nobody knows", b'""B."",""lang"":""en""', "unknown_message_key"),
    chat("too many keys", b'""B."",' + b",".join(b'""k%d"":1' % n for n in range(13)), "too_many_keys"),
    Case("Python in place of JSON", b"\"[{'role':'user'}]\"", "python_literal", None, *CHATS),
    Case("text in place of messages", b"hello", "json_syntax", None, *CHATS),
    Case("an empty cell of messages", b'""', "not_a_list", None, *CHATS),
    Case("an object in place of a list", b"{}", "not_a_list", None, *CHATS),
    Case("an empty list", b"[]", "no_messages", None, *CHATS),
    Case("history that is text", b"Q?,A.,x", "json_syntax", None, *HISTORIES),
    Case("history that is no list", b"Q?,A.,1", "not_a_list", None, *HISTORIES),
    Case("history of one text", b'Q?,A.,"[[""a""]]"', "history", None, *HISTORIES),
    Case("tools that are no JSON", b"Q?,A.,x", "json_syntax", None, *TOOLS),
    Case("tools that are an object", b"Q?,A.,{}", "tools_not_a_list", None, *TOOLS),
    Case("a prompt of bad turns", b'"[{""role"":""robot""}]",A.', "unknown_role", None, *PROMPTS),
    # Labels.
    Case("a label of perhaps", b"Q?,A.,perhaps", "label", None, *LABELS),
    Case("no label", b"Q?,A.,", "label", None, *LABELS),
    Case("a label of 2", b"Q?,A.,2", "label", None, *LABELS),
    Case("a label in capitals", b"Q?,A.,TRUE", None, None, *LABELS),
    # Preferences.
    Case("one end alone", b"Q?,A.,", None, None, *PREFERENCES),
    Case("an end of two turns", b"Else?,A.," + MESSAGES % b'""B.""', "preference_end", None, *PREFERENCES),
    Case("an end of a bad turn", b'Q?,A.,"{""from"":""gpt""}"', "not_a_list", None, *PREFERENCES),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_bad_record_is_named_and_the_others_are_read(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\n".join([case.header, case.good, case.record, case.good, case.good]) + b"\n")
    read = list(read_examples(path, LIMITS))
    findings = [item for item in read if isinstance(item, Finding)]
    examples = [item.line for item in read if isinstance(item, Example)]
    if case.rule is None:
        assert findings == []
        assert examples == [2, 3, 4, 5]
        return
    assert [(found.rule, found.line) for found in findings] == [(case.rule, 3)]
    assert examples == [2, 4, 5]
    assert (findings[0].file, findings[0].column) == ("rows.csv", case.column)
    assert findings[0].message
    assert findings[0].hint


@pytest.mark.parametrize(
    ("content", "examples", "findings"),
    [
        (b"", [], [("empty_file", None)]),
        (b"question,answer\n", [], [("empty_file", None)]),
        (b"question,answer", [], [("empty_file", None)]),
        (b"\xef\xbb\xbfquestion,answer\nQ?,A.\n", [2], [("bom", 1)]),
        (b"question,answer\r\nQ?,A.\r\n", [2], []),
        (b'question,answer\r\n"Q?","A.\r\nB."\r\nQ?,A.\r\n', [2, 4], []),
        (b"question,answer\nQ?,A.", [2], []),
        (b'question,answer\nQ?,"A.', [], [("open_quote", 2)]),
        (b'question,answer\nQ?,"A.\nB.\n\nC."\nQ?,A.\n', [2, 6], []),
        (b'question,answer\n"Q?,A.\nQ?,A.\nQ?,A.\n', [3, 4], [("open_quote", 2)]),
        (b'question,answer\n"Q?,A.\n"Q?","A."\nQ?,A.\n', [3, 4], [("open_quote", 2)]),
        (b'question,answer\n"Q?,A.\nQ?,"A."\nQ?,A.\n', [3, 4], [("open_quote", 2)]),
        (b'question,answer\n"Q?","a\n\nA\0"\nQ?,A.\n', [5], [("nul", 4)]),
        (b'question,answer\n"Q?","a\n\n\xff"\nQ?,A.\n', [5], [("bad_utf8", 4)]),
        (b"question,question\nQ?,A.\n", [], [("duplicate_column", 1)]),
        (b'question,"answer\nQ?,A.\n', [], [("open_quote", 1)]),
        (b"question,answ\0er\nQ?,A.\n", [], [("nul", 1)]),
        (b"question,answ\xe9r\nQ?,A.\n", [], [("bad_utf8", 1)]),
        (b",".join(b"c%d" % n for n in range(13)) + b"\n" + b"," * 12 + b"\n", [], [("too_many_keys", 1)]),
        (b"question;answer\nQ?;A, B\n", [2], []),
        (b"question\tanswer\nQ?\tA, B; C\n", [2], []),
        (b"question|answer\nQ?|A, B; C\n", [2], []),
        (b"sep=;\nquestion;answer\nQ?;A.\n", [3], []),
        (b'"question";"answer"\n"Q;?";"A."\n', [2], []),
        (b"frage,antwort\nQ?,A.\n", [], [("unknown_format", 2)]),
        (b"Question,Answer\nQ?,A.\n", [], [("unknown_format", 2)]),
        (b"query,response\nQ?,A.\n", [], [("unknown_format", 2)]),
        (b"question,answer\n=1+1,A.\n'=1+1,'A.\n", [2, 3], [(ESCAPE, 3)]),
        (b"question,answer\n,\n", [2], []),
        (b'question,answer,system\nQ?,A.,\nQ?,A.,""\n', [2, 3], []),
        (b'{"question":"Q?","answer":"A."}\n', [1], [("other_suffix", None)]),
        (b'[{"question":"Q?","answer":"A."}]\n', [1], [("other_suffix", None)]),
        (b"\x1f\x8b\x08\0", [], [("compressed", 1)]),
        (b"PK\x03\x04xl/workbook.xml", [], [("compressed", 1)]),
        ("question,answer\nQ?,A.\n".encode("utf-16"), [], [("not_utf8", 1)]),
    ],
)  # fmt: skip
def test_how_a_table_begins_and_ends(
    content: bytes, examples: list[int], findings: list[tuple[str, int | None]], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    read = list(read_examples(path, LIMITS))
    assert [item.line for item in read if isinstance(item, Example)] == examples
    assert [(item.rule, item.line) for item in read if isinstance(item, Finding)] == findings


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.txt", "rows"])
def test_a_table_is_told_from_its_content(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"prompt;completion\nQ?;A.\n")
    reading = Reading(path, LIMITS, {})
    *found, example = reading
    assert [item.rule for item in found if isinstance(item, Finding)] == (
        ["other_suffix"] if "json" in name else []
    )
    assert isinstance(example, Example)
    assert reading.detected is not None
    assert reading.detected.evidence == (
        "CSV parted by semicolons: completion, prompt in 1 of the first 1 rows"
    )


@pytest.mark.parametrize("content", [b"hello, world\n", b"a,b\nc,d\n", b"messages: []\n", b"one\ntwo\n"])
def test_text_with_commas_is_no_table(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    found = list(read_examples(path))
    assert {item.rule for item in found if isinstance(item, Finding)} == {"json_syntax"}


def test_a_mapping_names_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"id;query;reply\n7;Q?;A.\n")
    items = list(Reading(path, LIMITS, {"question": "query", "answer": "reply"}))
    assert [item.metadata for item in items if isinstance(item, Example)] == [{"id": "7"}]
    path.write_bytes(b"question;query;reply\n7;Q?;A.\n")
    *_, twice = Reading(path, LIMITS, {"question": "query", "answer": "reply"})
    assert (getattr(twice, "rule", None), twice.line) == ("duplicate_column", 1)


def test_a_field_that_is_never_closed_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'question,answer\nQ?,"' + b"a\n" * 600 + b"Q?,A.\n")
    read = list(read_examples(path, LIMITS))
    findings = [(item.rule, item.line) for item in read if isinstance(item, Finding)]
    assert findings == [("open_quote", 2), *(("ragged_row", line) for line in range(3, 602))]
    assert [item.line for item in read if isinstance(item, Example)] == [602]


def test_one_bad_record_in_a_thousand(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    records = [GOOD] * 1000
    records[500] = b'Q?,"A.'
    path.write_bytes(b"\n".join([HEADER, *records]) + b"\n")
    read = list(read_examples(path))
    assert [item.line for item in read if isinstance(item, Finding)] == [502]
    assert sum(isinstance(item, Example) for item in read) == 999


def test_the_table_is_printed(figure: Figure) -> None:
    figure(f"{sum(case.rule is not None for case in CASES)} malformed records of CSV")
