"""Every way we know to spoil a row: what is said about it, and where. The others are read all the same."""

from pathlib import Path
from typing import NamedTuple

import pytest

from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.reading import read_examples
from tests.conftest import Figure

GOOD = b'{"messages":[{"role":"user","content":"Q?"},{"role":"assistant","content":"A."}]}'
OPEN = b'{"messages":[{"role":"user","content":"Q?"},{"role":"assistant","content":'
LIMITS = Limits(file_bytes=2**16, line_bytes=2**12, depth=8, keys=40, messages=6)


class Case(NamedTuple):
    name: str
    row: bytes  # put on line 2, between two good rows
    rule: str | None  # None: nothing is found
    column: int | None = None


def said(content: bytes) -> bytes:
    """A chat whose answer is this JSON text."""
    return OPEN + content + b"}]}"


def at(row: bytes, part: bytes) -> int:
    return row.index(part) + 1


def turns(text: bytes) -> bytes:
    return b'{"messages":' + text + b"}"


ANSWER = b'{"role":"assistant","content":"A."}'
USER = b'{"role":"user","content":"Q?"}'
COLUMN = len(OPEN) + 1  # of the answer in `said`

CASES = [
    # Text that is no JSON.
    Case("nothing but a word", b"hello", "json_syntax", 1),
    Case("an open object", b"{", "json_syntax", 2),
    Case("an open string", OPEN + b'"A', "json_syntax"),
    Case("an open list", OPEN + b'"A."}', "json_syntax"),
    Case("a closing bracket too many", GOOD + b"}", "json_syntax", len(GOOD) + 1),
    Case("two objects on a line", GOOD + GOOD, "json_syntax", len(GOOD) + 1),
    Case("two objects and a comma", GOOD + b"," + GOOD, "json_syntax", len(GOOD) + 1),
    Case("a comma at the end of the line", GOOD + b",", "json_syntax", len(GOOD) + 1),
    Case("a comma before the bracket", b'{"a":1,}', "json_syntax"),
    Case("a comma before the list's end", b'{"a":[1,]}', "json_syntax"),
    Case("a comma missing", b'{"a":1 "b":2}', "json_syntax"),
    Case("a colon missing", b'{"a" 1}', "json_syntax"),
    Case("a key without marks", b"{a:1}", "json_syntax"),
    Case("single marks", b"{'messages':[]}", "python_literal", 1),
    Case("a list in single marks", b"['a']", "python_literal", 1),
    Case("a comment", b"// rows", "json_syntax", 1),
    Case("a comment within", b'{"a":/*x*/1}', "json_syntax"),
    Case("brackets of two kinds", b'{"a":[1}', "json_syntax"),
    Case("True of Python", said(b"True"), "json_syntax"),
    Case("undefined", said(b"undefined"), "json_syntax"),
    Case("a number with a leading zero", said(b"01"), "json_syntax"),
    Case("a number with a plus", said(b"+1"), "json_syntax"),
    Case("a hexadecimal number", said(b"0x1"), "json_syntax"),
    Case("a number that ends in a dot", said(b"1."), "json_syntax"),
    Case("an unknown escape", said(rb'"\x41"'), "json_syntax"),
    Case("a short escape", said(rb'"\u12"'), "json_syntax"),
    Case("an escape that is no hex", said(rb'"\uZZZZ"'), "json_syntax"),
    Case("a raw tab in a string", said(b'"a\tb"'), "json_syntax"),
    Case("a raw escape character", said(b'"a\x1bb"'), "json_syntax"),
    Case("yaml", b"messages: []", "json_syntax", 1),
    Case("html", b"<html>404</html>", "json_syntax", 1),
    # Bytes.
    Case("a byte of Latin-1", said(b'"caf\xe9"'), "bad_utf8", COLUMN + 4),
    Case("a byte that is never UTF-8", said(b'"\xff"'), "bad_utf8", COLUMN + 1),
    Case("an overlong slash", said(b'"\xc0\xaf"'), "bad_utf8", COLUMN + 1),
    Case("a surrogate in UTF-8", said(b'"\xed\xa0\x80"'), "bad_utf8", COLUMN + 1),
    Case("beyond the last character", said(b'"\xf4\x90\x80\x80"'), "bad_utf8", COLUMN + 1),
    Case("a character cut off", said(b'"\xe2\x82"'), "bad_utf8", COLUMN + 1),
    Case("a continuation byte alone", said(b'"\x80"'), "bad_utf8", COLUMN + 1),
    Case("bad bytes outside of strings", b"\xfe" + GOOD, "bad_utf8", 1),
    Case("a BOM on a later line", b"\xef\xbb\xbf" + GOOD, "json_syntax", 1),
    Case("a raw NUL", said(b'"a\0b"'), "nul", COLUMN + 2),
    Case("nothing but NULs", b"\0\0\0\0", "nul", 1),
    Case("an escaped NUL", said(rb'"a\u0000b"'), "nul", COLUMN + 2),
    Case("an escaped NUL in a key", rb'{"a\u0000":1}', "nul", 4),
    Case("a NUL after a backslash", said(rb'"\\\u0000"'), "nul", COLUMN + 3),
    Case("a backslash and the letters u0000", said(rb'"\\u0000"'), None),
    # Surrogates.
    Case("a high surrogate", said(rb'"\ud800"'), "lone_surrogate", COLUMN + 1),
    Case("a low surrogate", said(rb'"\udc00"'), "lone_surrogate", COLUMN + 1),
    Case("two high ones", said(rb'"\ud83d\ud83d"'), "lone_surrogate", COLUMN + 1),
    Case("the halves in the wrong order", said(rb'"\ude00\ud83d"'), "lone_surrogate", COLUMN + 1),
    Case("halves with a letter between", said(rb'"\ud83dx\ude00"'), "lone_surrogate", COLUMN + 1),
    Case("a pair and one more", said(rb'"\ud83d\ude00\ud83d"'), "lone_surrogate", COLUMN + 13),
    Case("a surrogate in a key", rb'{"\udfff":1}', "lone_surrogate", 3),
    Case("a whole pair", said(rb'"\ud83d\ude00"'), None),
    # Keys.
    Case("a key twice", b'{"messages":[],"messages":[]}', "duplicate_key", 16),
    Case("a role twice", turns(b'[{"role":"user","role":"user","content":"a"}]'), "duplicate_key", 29),
    Case("a key twice, once escaped", rb'{"ab":1,"\u0061b":2}', "duplicate_key", 9),
    Case("a key twice with blanks", b'{"a" : 1, "a" : 2}', "duplicate_key", 11),
    Case("a key twice with a tab", b'{"a"\t:1,"a"\t:2}', "duplicate_key", 9),
    Case("a key twice, deeper down", b'{"x":{"y":[{"a":1,"a":2}]}}', "duplicate_key", 19),
    Case("a key twice behind text like a key", rb'{"a":"\":","b":1,"b":2}', "duplicate_key", 18),
    Case("an empty key twice", b'{"":1,"":2}', "duplicate_key", 7),
    Case("text that looks like a key", said(rb'"say \"x\": y"'), None),
    Case("keys that differ in case", GOOD[:-1] + b',"a":1,"A":2}', None),
    Case("too many keys", b"{" + b",".join(b'"%d":1' % n for n in range(41)) + b"}", "too_many_keys"),
    Case("too many keys in lists", b'{"a":[' + b",".join([b'{"b":1}'] * 41) + b"]}", "too_many_keys"),
    # Numbers.
    Case("NaN", b'{"a":NaN}', "not_a_number", 6),
    Case("Infinity", b'{"a":Infinity}', "not_a_number", 6),
    Case("-Infinity", b'{"a":-Infinity}', "not_a_number", 6),
    Case("NaN in a list", b'{"a":[1,NaN]}', "not_a_number", 9),
    Case("the word NaN", said(b'"NaN"'), None),
    Case("2 to the 64th", b'{"a":18446744073709551616}', "huge_integer", 6),
    Case("less than -2 to the 63rd", b'{"a":-9223372036854775809}', "huge_integer", 6),
    Case("an integer of 3,000 digits", b'{"a":' + b"7" * 3000 + b"}", "huge_integer", 6),
    Case("a number beyond a double", b'{"a":1e999}', "huge_number", 6),
    Case("a negative one", b'{"a":-1e999}', "huge_number", 6),
    Case("the largest integer", GOOD[:-1] + b',"a":18446744073709551615}', None),
    Case("a long number in text", said(b'"12345678901234567890123456789"'), None),
    # Size.
    Case("nine lists", b"[" * 9 + b"]" * 9, "too_deep", 9),
    Case("nine objects", b'{"a":' * 9 + b"1" + b"}" * 9, "too_deep", 41),
    Case("lists that are never closed", b"[" * 4000, "too_deep", 9),
    Case("objects that are never closed", b'{"a":' * 800, "too_deep", 41),
    Case("brackets in text", said(b'"' + b"[" * 100 + b'"'), None),
    Case("brackets behind an escaped mark", said(rb'"\"' + b"{" * 100 + b'"'), None),
    Case("a line that is too long", said(b'"' + b"a" * 4096 + b'"'), "line_too_long"),
    Case("a long line of blanks and text", b" " * 5000 + GOOD, "line_too_long"),
    Case("seven messages", turns(b"[" + b",".join([USER] * 7) + b"]"), "too_many_messages"),
    # Rows that are JSON, but no rows.
    Case("a list", b"[1]", "not_an_object", 1),
    Case("a list of a row", b"[" + GOOD + b"]", "not_an_object", 1),
    Case("text", b'"hello"', "not_an_object", 1),
    Case("a number", b"17", "not_an_object", 1),
    Case("null", b"null", "not_an_object", 1),
    Case("true", b"true", "not_an_object", 1),
    Case("an empty line", b"", "empty_line"),
    Case("a line of blanks", b" \t ", "empty_line"),
    # Columns.
    Case("an empty object", b"{}", "unknown_format"),
    Case("unknown columns", b'{"x":1,"y":2}', "unknown_format"),
    Case("columns in capitals", b'{"Messages":[]}', "unknown_format"),
    Case("a question without an answer", b'{"question":"Q?"}', "unknown_format"),
    Case("a prompt without a completion", b'{"prompt":"Q?"}', "unknown_format"),
    Case("text without turns", b'{"text":"Q? A."}', "unknown_format"),
    Case("text that is null", b'{"text":null}', "unknown_format"),
    Case("a row of another format", b'{"instruction":"a","output":"b"}', "mixed_formats"),
    Case("a preference among chats", b'{"prompt":"a","chosen":"b","rejected":"c"}', "mixed_formats"),
    Case(
        "an answer for Anthropic among chats",
        rb'{"prompt":"\n\nHuman: Q\n\nAssistant:","completion":""}',
        "mixed_formats",
    ),
    # Messages.
    Case("messages that are null", turns(b"null"), "not_a_list"),
    Case("messages that are text", turns(b'"Q? A."'), "not_a_list"),
    Case("messages that are an object", turns(b"{}"), "not_a_list"),
    Case("no message", turns(b"[]"), "no_messages"),
    Case("a message that is text", turns(b'["Q?","A."]'), "not_a_message"),
    Case("a message that is null", turns(b"[null]"), "not_a_message"),
    Case("a message that is a list", turns(b'[["user","Q?"]]'), "not_a_message"),
    Case("an empty message", turns(b"[{}]"), "unknown_role"),
    Case("no role", turns(b'[{"content":"Q?"}]'), "unknown_role"),
    Case("an unknown role", turns(b'[{"role":"robot","content":"Q?"}]'), "unknown_role"),
    Case("a role in capitals", turns(b'[{"role":"User","content":"Q?"}]'), "unknown_role"),
    Case("a role that is a number", turns(b'[{"role":1,"content":"Q?"}]'), "unknown_role"),
    Case("a role that is a list", turns(b'[{"role":["user"],"content":"Q?"}]'), "unknown_role"),
    Case("no content", turns(b'[{"role":"user"}]'), "content_missing"),
    Case("content that is null", said(b"null"), "content_missing"),
    Case("content that is a number", said(b"1"), "not_text"),
    Case("content that is true", said(b"true"), "not_text"),
    Case("content that is an object", said(b"{}"), "not_text"),
    Case("content in parts", said(b'[{"type":"text","text":"A."}]'), "content_parts"),
    Case("a speaker", turns(b'[{"speaker":"user","text":"Q?"}]'), "unknown_message_key"),
    Case("role and from", turns(b'[{"role":"user","from":"human","content":"Q?"}]'), "two_spellings"),
    Case("content and value", turns(b'[{"role":"user","value":"Q?","content":"Q?"}]'), "two_spellings"),
    Case("a weight of 2", OPEN + b'"A.","weight":2}]}', "weight"),
    Case("a weight of a half", OPEN + b'"A.","weight":0.5}]}', "weight"),
    Case("a weight of true", OPEN + b'"A.","weight":true}]}', "weight"),
    Case("calls that are text", OPEN + b'"A.","tool_calls":"f"}]}', "tool_calls"),
    Case("calls of text", OPEN + b'"A.","tool_calls":["f"]}]}', "tool_calls"),
    Case("a name that is a number", OPEN + b'"A.","name":1}]}', "not_text"),
    Case("tools that are an object", GOOD[:-1] + b',"tools":{}}', "tools_not_a_list"),
    Case("tools that are text", GOOD[:-1] + b',"tools":"x"}', "tools_not_json"),
    Case("tools of text", GOOD[:-1] + b',"tools":["x"]}', "tools_not_a_list"),
]


def items(path: Path) -> list[Example | Finding]:
    return list(read_examples(path, LIMITS))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_bad_row_is_named_and_the_others_are_read(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([GOOD, case.row, GOOD, GOOD]) + b"\n")
    read = items(path)
    examples = [item.line for item in read if isinstance(item, Example)]
    findings = [(found.rule, found.line) for found in read if isinstance(found, Finding)]
    if case.rule is None:
        assert findings == []
        assert examples == [1, 2, 3, 4]
        return
    assert findings == [(case.rule, 2)]
    assert examples == [1, 3, 4]
    (found,) = (item for item in read if isinstance(item, Finding))
    assert found.file == "rows.jsonl"
    assert found.message
    assert found.hint
    if case.column is not None:
        assert found.column == case.column


def test_the_table_is_long_enough(figure: Figure) -> None:
    count = sum(case.rule is not None for case in CASES)
    figure(f"{count} malformed lines of JSON")
    assert count >= 120
