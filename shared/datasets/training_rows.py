"""Lines of a training file, in the shape that each method reads. `store.training_file` writes them.

full, lora, qlora    {"messages": [...]}, the last one the assistant's: it is learned
dpo, orpo            {"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}
kto                  {"messages": [...], "label": true}: whether the last answer is a good one
embedding            {"anchor": "...", "positive": "..."}: two texts that belong together

Each function takes one line, and gives None for a line that no trainer takes.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

Messages = list[dict[str, Any]]


class Preference(NamedTuple):
    """A better and a worse end of the same conversation."""

    prompt: Messages
    chosen: Messages
    rejected: Messages


class Labelled(NamedTuple):
    """A conversation, and whether its answer is a good one."""

    messages: Messages
    label: bool


class Texts(NamedTuple):
    """Two texts that belong together."""

    anchor: str
    positive: str


def conversation(line: str) -> Messages | None:
    """The messages, a question and an answer at least."""
    return _with_answer(_read(line).get("messages"))


def preference(line: str) -> Preference | None:
    """The prompt and its two answers."""
    row = _read(line)
    given = row.get("input")
    prompt = given.get("messages") if isinstance(given, dict) else None
    chosen, rejected = row.get("preferred_output"), row.get("non_preferred_output")
    if not (isinstance(prompt, list) and isinstance(chosen, list) and isinstance(rejected, list)):
        return None
    one_each = len(chosen) == len(rejected) == 1
    if not one_each or _with_answer(prompt + chosen) is None or _with_answer(prompt + rejected) is None:
        return None
    return Preference(prompt, chosen, rejected)


def labelled(line: str) -> Labelled | None:
    """The messages and their label."""
    row = _read(line)
    messages, label = _with_answer(row.get("messages")), row.get("label")
    return Labelled(messages, label) if messages is not None and isinstance(label, bool) else None


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


def _with_answer(messages: object) -> Messages | None:
    if not isinstance(messages, list) or len(messages) < 2:
        return None
    if not all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages):
        return None
    return messages if messages[-1].get("role") == "assistant" else None
