"""A row as a base model's chat template is given it, and whether the template shows its tools.

What a template does not know it leaves out without a word: a model would learn to call tools that it never
saw. Such a row is refused here, though transformers and TRL train it without its tools.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from shared.datasets.training_rows import Conversation, Messages, Tools

# Token ids of the messages with these tools. True: up to where the model would begin to speak. Raises
# TemplateFails, and nothing else that a template may raise.
Encode = Callable[[Messages, Tools, bool], list[int]]


class TemplateFails(Exception):
    """The chat template cannot show the row; the sentence says why."""


def for_template(row: Conversation, encode: Encode) -> Messages:
    """The messages without their weights, which speak to the trainer alone.

    The arguments of calls become objects, as templates expect them (OpenAI writes JSON as text, which many
    would escape once more); they stay text where the template takes nothing else, as DeepSeek's. Raises
    TemplateFails when the template takes neither, or leaves out tools, their calls or their results.
    """
    messages = [{name: message[name] for name in message if name != "weight"} for message in row.messages]
    if not row.tools and not any(_is_of_tools(message) for message in messages):
        return messages
    given = [_with_objects(message) for message in messages]
    try:
        whole = encode(given, row.tools, False)
    except TemplateFails:
        given = messages
        whole = encode(given, row.tools, False)
    _require_shown(given, row.tools, whole, encode)
    return given


def other_content(message: dict[str, Any]) -> dict[str, Any]:
    """The message with content that begins otherwise."""
    begins_alike = message["content"].lstrip().startswith("0")
    return message | {"content": "1" if begins_alike else "0"}


def _is_of_tools(message: dict[str, Any]) -> bool:
    return bool(message.get("tool_calls")) or message.get("role") == "tool"


def _with_objects(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    return message | {"tool_calls": [_with_object(call) for call in calls]} if calls else message


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    if not isinstance(arguments, dict):
        return call
    return call | {"function": function | {"arguments": arguments}}


def _require_shown(messages: Messages, tools: Tools, whole: list[int], encode: Encode) -> None:
    without_calls = [{name: one[name] for name in one if name != "tool_calls"} for one in messages]
    other_results = [other_content(one) if one.get("role") == "tool" else one for one in messages]
    without: dict[str, tuple[Messages, Tools]] = {
        "definitions of tools": (messages, ()),
        "calls of tools": (without_calls, tools),
        "results of tools": (other_results, tools),
    }
    for what, (others, other_tools) in without.items():
        is_said = others != messages or len(other_tools) != len(tools)
        if is_said and _encoded_or_none(encode, others, other_tools) == whole:
            raise TemplateFails(f"it leaves out the {what}")


def _encoded_or_none(encode: Encode, messages: Messages, tools: Sequence[dict[str, Any]]) -> list[int] | None:
    """None: the template misses what was taken out, so it reads it."""
    try:
        return encode(messages, tools, False)
    except TemplateFails:
        return None
