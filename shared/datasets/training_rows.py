"""Lines of a training file, in the shape that each method reads. `store.training_file` writes them.

full, lora, qlora    {"messages": [...], "tools": [...]}, the last message the assistant's
dpo, orpo            {"input": {"messages": [...], "tools": [...]}, "preferred_output": [...],
                      "non_preferred_output": [...]}
kto                  {"messages": [...], "tools": [...], "label": true}: whether the last answer is a good one
embedding            {"anchor": "...", "positive": "..."}: two texts that belong together

`tools` may lack. A message may have `weight`, 0 or 1: see `loss_mask.learned_answers`; where answers are
compared it says nothing. Each function takes one line, and gives None for a line that no trainer takes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

Messages = list[dict[str, Any]]
Tools = Sequence[dict[str, Any]]  # their definitions, as OpenAI writes them


class Conversation(NamedTuple):
    """Messages, and the tools that the assistant may call in them."""

    messages: Messages
    tools: Tools = ()


class Preference(NamedTuple):
    """A better and a worse end of the same conversation."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    tools: Tools = ()

    @property
    def ends(self) -> tuple[Conversation, Conversation]:
        """The conversation with its better and with its worse end."""
        better, worse = self.prompt + self.chosen, self.prompt + self.rejected
        return Conversation(better, self.tools), Conversation(worse, self.tools)


class Labelled(NamedTuple):
    """A conversation, and whether its answer is a good one."""

    conversation: Conversation
    label: bool


class Texts(NamedTuple):
    """Two texts that belong together."""

    anchor: str
    positive: str


def conversation(line: str) -> Conversation | None:
    """The messages, a question and an answer at least, with their tools."""
    return _conversation(_read(line))


def preference(line: str) -> Preference | None:
    """The prompt and its two answers."""
    row = _read(line)
    given = row.get("input")
    given = given if isinstance(given, dict) else {}
    prompt, tools = given.get("messages"), _tools(given)
    chosen, rejected = row.get("preferred_output"), row.get("non_preferred_output")
    if not (isinstance(prompt, list) and isinstance(chosen, list) and isinstance(rejected, list)):
        return None
    one_each = len(chosen) == len(rejected) == 1
    if not one_each or _with_answer(prompt + chosen) is None or _with_answer(prompt + rejected) is None:
        return None
    return None if tools is None else Preference(prompt, chosen, rejected, tools)


def labelled(line: str) -> Labelled | None:
    """The conversation and its label."""
    row = _read(line)
    found, label = _conversation(row), row.get("label")
    return Labelled(found, label) if found is not None and isinstance(label, bool) else None


def texts(line: str) -> Texts | None:
    """The two texts; neither is empty."""
    row = _read(line)
    anchor, positive = row.get("anchor"), row.get("positive")
    if not (isinstance(anchor, str) and isinstance(positive, str)):
        return None
    return Texts(anchor, positive) if anchor.strip() and positive.strip() else None


def _read(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


def _conversation(row: dict[str, Any]) -> Conversation | None:
    messages, tools = _with_answer(row.get("messages")), _tools(row)
    return None if messages is None or tools is None else Conversation(messages, tools)


def _tools(row: dict[str, Any]) -> Tools | None:
    """Empty where the row has none; None where they are no definitions."""
    tools = row.get("tools") or []
    return tools if isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools) else None


def _with_answer(messages: object) -> Messages | None:
    if not isinstance(messages, list) or len(messages) < 2 or not all(map(_is_message, messages)):
        return None
    return messages if messages[-1].get("role") == "assistant" else None


def _is_message(message: object) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("content"), str):
        return False
    calls = message.get("tool_calls") or []
    are_calls = isinstance(calls, list) and all(isinstance(call, dict) for call in calls)
    return are_calls and message.get("weight") in (None, 0, 1)
