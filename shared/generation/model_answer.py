"""What the answer of a language model says: examples to be checked, and nothing that was not asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import json_repair
from pydantic import BaseModel, Field, ValidationError

from shared.errors import ProviderUnavailable
from shared.generation.leaks import gives_away
from shared.generation.source import Draft, SourceChunk

_MAX_TURNS = 6
_MAX_ANSWER_CHARS = 200_000  # beyond it a repair is not worth its time


def examples_schema(*, reasoning: bool) -> dict[str, Any]:
    """What the answer must look like. A model thinks before it answers, so `reasoning` comes first."""
    said = ("user", "reasoning", "assistant") if reasoning else ("user", "assistant")
    turn = _object(**{name: {"type": "string"} for name in said})
    example = _object(turns={"type": "array", "items": turn}, quote={"type": "string"})
    return _object(examples={"type": "array", "items": example})


def shape_of(schema: dict[str, Any]) -> str:
    """The schema as an example that a reader understands: {"examples": [{"turns": ...}]}."""
    return json.dumps(_shape(schema), ensure_ascii=False)


class _Turn(BaseModel):
    user: str
    assistant: str
    reasoning: str = ""


class _Example(BaseModel):
    turns: list[_Turn] = Field(min_length=1, max_length=_MAX_TURNS)
    quote: str = ""


def read_answer(
    text: str,
    chunk: SourceChunk,
    count: int,
    marks: Sequence[str],
    *,
    rules: str = "",
    reasoning: bool = False,
) -> tuple[list[Draft], int]:
    """The drafts in a model's answer, and how many of its examples cannot be used.

    An answer that gives away a mark of the prompt, or its rules, follows somebody else's instructions: all of
    it is refused. One that was cut off loses its last example. Raises ProviderUnavailable when there is no
    list of examples in it: the next answer may have one.
    """
    examples, is_cut = read_list(text, "examples")
    if gives_away([text, *texts_in(examples)], marks, rules):
        return [], max(1, len(examples))
    drafts = []
    for example in (examples[:-1] if is_cut else examples)[:count]:
        try:
            drafts.append(_draft(_Example.model_validate(example), chunk, reasoning=reasoning))
        except ValidationError:
            continue
    return drafts, len(examples) - len(drafts)


def read_list(text: str, name: str) -> tuple[list[Any], bool]:
    """The list of this name in an answer of JSON, whatever stands around it, and whether it was cut off.

    Raises ProviderUnavailable when there is none.
    """
    text = text[:_MAX_ANSWER_CHARS]
    try:
        answer = json_repair.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        answer = answer.get(name, answer.get("pairs"))
    if not isinstance(answer, list):
        raise ProviderUnavailable(f"The model gave no list of {name}.", code="answer_not_understood")
    return answer, _is_open(text)


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included, however deep."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value


def find_quote(quote: str, content: str) -> tuple[int, int]:
    """Where the quote stands, whatever its blanks; the whole content when it does not."""
    words = quote.split()[:200]
    if words:
        found = re.search(r"\s+".join(map(re.escape, words)), content)
        if found:
            return found.span()
    return 0, len(content)


def _draft(example: _Example, chunk: SourceChunk, *, reasoning: bool) -> Draft:
    start, end = find_quote(example.quote, chunk.content)
    return Draft(
        tuple((turn.user, turn.assistant) for turn in example.turns),
        chunk.char_start + start,
        chunk.char_start + end,
        tuple(turn.reasoning for turn in example.turns) if reasoning else (),
    )


def _is_open(text: str) -> bool:
    """Whether brackets are still open at the end, or a text is."""
    depth, in_text = 0, False
    for token in re.finditer(r'\\.|["{}\[\]]', text, re.S):
        if token[0] == '"':
            in_text = not in_text
        elif not in_text and token[0] in "{[":
            depth += 1
        elif not in_text and token[0] in "}]":
            depth -= 1
    return depth > 0 or in_text


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _shape(schema: dict[str, Any]) -> Any:
    if schema["type"] == "object":
        return {name: _shape(inner) for name, inner in schema["properties"].items()}
    if schema["type"] == "array":
        return [_shape(schema["items"])]
    return schema.get("enum", ["..."])[0] if schema["type"] == "string" else 1
