"""As much of Go's text/template as our Modelfiles use: pkg.go.dev/text/template.

Written from that page and held against Go itself where Go is installed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Message = dict[str, str]
Scope = dict[str, Any]
_ACTION = re.compile(r'\{\{(- )?\s*((?:"(?:\\.|[^"\\])*"|[^"}])*?)\s*( -)?\}\}')
_WORD = re.compile(r'\s*("(?:\\.|[^"\\])*"|\(|\)(?:\.\w+)?|[^\s()]+)')
_FUNCTIONS = {
    "eq": lambda first, second: first == second,
    "and": lambda first, second: second if first else first,
    "or": lambda first, second: first or second,
    "not": lambda value: not value,
    "len": len,
    "slice": lambda values, start: values[start:],
    "index": lambda values, place: values[place],
}


def render(template: str, messages: list[Message]) -> str:
    """The template with Ollama's `.Messages` and `.System`. Raises ValueError for what is not known here."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    root = {"Messages": [{"Role": m["role"], "Content": m["content"]} for m in messages], "System": system}
    pieces = _pieces(template)
    text, end = _block(pieces, 0, {"$": root}, root)
    if end != len(pieces):
        raise ValueError("an end too many")
    return text


def _pieces(template: str) -> list[tuple[str, str]]:
    pieces, place, trims = [], 0, False
    for action in _ACTION.finditer(template):
        text = template[place : action.start()]
        text = text.lstrip() if trims else text
        pieces.append(("text", text.rstrip() if action[1] else text))
        pieces.append(("action", action[2]))
        place, trims = action.end(), bool(action[3])
    rest = template[place:]
    return [*pieces, ("text", rest.lstrip() if trims else rest)]


def _block(pieces: list[tuple[str, str]], place: int, scope: Scope, dot: Any) -> tuple[str, int]:
    """Everything up to the `else` or `end` that belongs to another block, and where that stands."""
    printed = ""
    while place < len(pieces):
        kind, content = pieces[place]
        word = content.partition(" ")[0]
        if kind == "text":
            printed += content
        elif word in ("else", "end"):
            break
        elif word == "if":
            text, place = _if(pieces, place, scope, dot)
            printed += text
        elif word == "range":
            text, place = _range(pieces, place, scope, dot)
            printed += text
        elif ":=" in content:
            name, _, value = content.partition(" := ")
            scope[name] = _value(value, scope, dot)
        else:
            printed += str(_value(content, scope, dot))
        place += 1
    return printed, place


def _if(pieces: list[tuple[str, str]], place: int, scope: Scope, dot: Any) -> tuple[str, int]:
    chosen = None
    condition = pieces[place][1].removeprefix("if ")
    while True:
        holds = chosen is None and bool(_value(condition, scope, dot))
        text, place = _block(pieces, place + 1, scope, dot)
        chosen = text if holds else chosen
        word = pieces[place][1]
        if word == "end":
            return chosen or "", place
        condition = word.removeprefix("else if ") if word.startswith("else if ") else '"always"'


def _range(pieces: list[tuple[str, str]], place: int, scope: Scope, dot: Any) -> tuple[str, int]:
    found = re.fullmatch(r"range (\$\w*), (\$\w*) := (.+)", pieces[place][1])
    if found is None:
        raise ValueError(f"this range is not known: {pieces[place][1]}")
    printed, end = "", place
    for index, item in enumerate(_value(found[3], scope, dot)):
        text, end = _block(pieces, place + 1, {**scope, found[1]: index, found[2]: item}, item)
        printed += text
    return printed, end


def _value(expression: str, scope: Scope, dot: Any) -> Any:
    return _call(iter(_WORD.findall(expression)), scope, dot)


def _call(words: Iterator[str], scope: Scope, dot: Any) -> Any:
    values: list[Any] = []
    field_of_all = ""
    for word in words:
        if word.startswith(")"):
            field_of_all = word[2:]  # (index ...).Role
            break
        if word == "(":
            values.append(_call(words, scope, dot))
        elif word.startswith('"'):
            values.append(json.loads(word))
        elif word.isdigit():
            values.append(int(word))
        elif word.startswith((".", "$")):
            name, _, field = word.partition(".")
            holder = scope[name] if name else dot
            values.append(holder[field] if field else holder)
        else:
            values.append(_FUNCTIONS[word])
    function, *arguments = values
    value = function(*arguments) if callable(function) else function
    return value[field_of_all] if field_of_all else value
