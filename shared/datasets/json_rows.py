"""One JSON text, from anywhere, to a value: what is dangerous or ambiguous in it is named with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from shared.datasets.limits import Limits

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"?'  # to the end of the text when it is not closed
_TOKEN = re.compile(_STRING + rb'|[\[\]{},:]|[^\s\[\]{},:"]+', re.DOTALL)
_BRACKET = re.compile(_STRING + rb"|([\[{])|([\]}])", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_PYTHON = re.compile(rb"\s*[\[{][\[{\s]*'")
_INTEGER = re.compile(rb"-?[0-9]+")
_NOT_JSON_NUMBERS = {b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"-inf", b"+Infinity"}
_LONGEST_INTEGER = 20  # digits and sign of what fits in 64 bits


@dataclass(frozen=True)
class Problem:
    """Why a text is not taken; `offset` counts bytes from its beginning."""

    rule: str
    message: str
    hint: str
    offset: int | None = None


def parse(text: bytes, limits: Limits) -> Any | Problem:
    """The value of a JSON text, or the first problem in it. Raises nothing."""
    if text.count(b"{") + text.count(b"[") > limits.depth:  # only then can it be too deep
        place = _too_deep_at(text, limits.depth)
        if place is not None:
            hint = "Flatten it; a training row needs a few levels."
            return Problem("too_deep", f"More than {limits.depth} brackets within brackets.", hint, place)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _diagnosis(text, error)
    keys, has_number = _count(value)
    if keys > limits.keys:
        hint = "Leave out the columns that no training needs."
        return Problem("too_many_keys", f"{keys:,} keys; a row may have {limits.keys:,}.", hint)
    return _hidden(text, keys, has_number) or value


def _count(value: object) -> tuple[int, bool]:
    """How many keys all objects of the value have together, and whether there is a number in it."""
    keys, has_number, todo = 0, False, [value]
    while todo:
        item = todo.pop()
        if type(item) is dict:
            keys += len(item)
            todo.extend([held for held in item.values() if type(held) is not str])
        elif type(item) is list:
            todo.extend([held for held in item if type(held) is not str])
        elif type(item) is int or type(item) is float:
            has_number = True
    return keys, has_number


def _hidden(text: bytes, keys: int, has_number: bool) -> Problem | None:
    """A problem that parsers let pass; None when there is none."""
    is_plain = (
        text.count(b'":') == keys
        and b" :" not in text
        and b"\t:" not in text
        and b"\n:" not in text
        and b"\r:" not in text
        and b"\\u0000" not in text
        and not (has_number and _LONG_DIGITS.search(text))
    )
    return None if is_plain else scan(text)


_LONG_DIGITS = re.compile(rb"[0-9]{19}|[eE][+-]?[0-9]{3}")


def scan(text: bytes) -> Problem | None:
    """The first thing in the text, in its order, that a parser may let pass but a trainer or database not."""
    open_keys: list[set[bytes] | None] = []  # of each open object; None for an array
    before = b""
    for match in _TOKEN.finditer(text):
        token, at = match.group(), match.start()
        problem = None
        if token in (b"{", b"["):
            open_keys.append(set() if token == b"{" else None)
        elif token in (b"}", b"]"):
            if open_keys:
                open_keys.pop()
        elif token[:1] == b'"':
            problem = _in_string(token, at)
            if problem is None and open_keys and before in (b"{", b","):
                problem = _repeated(token, at, open_keys[-1])
        elif token not in (b",", b":"):
            problem = _in_number(token, at)
        if problem:
            return problem
        before = token
    return None


def _too_deep_at(text: bytes, depth: int) -> int | None:
    level = 0
    for match in _BRACKET.finditer(text):
        if match.group(1):
            level += 1
            if level > depth:
                return match.start()
        elif match.group(2):
            level -= 1
    return None


def _in_string(token: bytes, at: int) -> Problem | None:
    if b"\\u" not in token:
        return None
    high_at: int | None = None  # where an unpaired high surrogate stands
    end = 0
    for match in _ESCAPE.finditer(token):
        code = int(match.group(1), 16) if match.group(1) else None
        if high_at is not None and not (code and 0xDC00 <= code < 0xE000 and match.start() == end):
            break
        if code == 0:
            return _nul(at + match.start())
        if code and 0xDC00 <= code < 0xE000:
            if high_at is None:
                return _surrogate(at + match.start())
            high_at = None
        elif code and 0xD800 <= code < 0xDC00:
            high_at = match.start()
        end = match.end()
    return None if high_at is None else _surrogate(at + high_at)


def _nul(offset: int) -> Problem:
    return Problem(
        "nul", "A NUL character, which no database stores as text.", "Take it out or write a blank.", offset
    )


def _surrogate(offset: int) -> Problem:
    hint = "Write the whole character, or both halves of its pair."
    return Problem("lone_surrogate", "Half of a surrogate pair, which is no character.", hint, offset)


def _repeated(token: bytes, at: int, keys: set[bytes] | None) -> Problem | None:
    if keys is None:
        return None
    key = token
    if b"\\" in token:
        try:
            key = orjson.dumps(orjson.loads(token))
        except orjson.JSONDecodeError:
            return None  # the parser refuses it with a better reason
    if key in keys:
        name = key.decode(errors="replace")[:60]
        hint = "Keep one of them; readers differ in which one they take."
        return Problem("duplicate_key", f"The key {name} stands twice in one object.", hint, at)
    keys.add(key)
    return None


def _in_number(token: bytes, at: int) -> Problem | None:
    if token in _NOT_JSON_NUMBERS:
        shown = token.decode()
        return Problem("not_a_number", f"{shown} is no JSON.", "Write null, or leave the key out.", at)
    if _INTEGER.fullmatch(token):
        if len(token) > _LONGEST_INTEGER or not -(2**63) <= int(token) < 2**64:
            hint = "Write it as text, in quotation marks."
            return Problem("huge_integer", "An integer of more than 64 bits loses digits.", hint, at)
    elif token[:1] in b"-0123456789" and len(token) < 400:
        try:
            overflows = float(token) in (float("inf"), float("-inf"))
        except ValueError:
            return None
        if overflows:
            return Problem("huge_number", "A number beyond what 64 bits hold.", "Write it as text.", at)
    return None


def _diagnosis(text: bytes, error: orjson.JSONDecodeError) -> Problem:
    """Why the parser refused the text, in the words of the person who has to mend it."""
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        byte = text[wrong.start]
        hint = "Save the file as UTF-8."
        return Problem("bad_utf8", f"The byte 0x{byte:02x} is not UTF-8 here.", hint, wrong.start)
    if (at := text.find(b"\0")) >= 0:
        return _nul(at)
    if _PYTHON.match(text):
        hint = "Write it with a JSON library: json.dumps(row), not str(row)."
        return Problem("python_literal", "This is Python, not JSON: single quotation marks.", hint, 0)
    offset = len(str(error.doc)[: error.pos].encode(errors="replace"))
    hint = "Write one complete JSON object."
    return scan(text) or Problem("json_syntax", f"Not JSON: {_reason(error)}.", hint, offset)


def _reason(error: orjson.JSONDecodeError) -> str:
    return str(error).partition(": line ")[0]
