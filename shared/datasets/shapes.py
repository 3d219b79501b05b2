"""The formats that rows come in: how each is known by its columns, and what its columns say.

A row is of the first shape in SHAPES whose columns it all has. Columns that a shape does not name are kept as
metadata, so that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.datasets.examples import Example
from shared.datasets.model import Message
from shared.datasets.turns import (
    NotRead,
    anthropic_turns,
    chatml_turns,
    is_anthropic_prompt,
    kind_of,
    message_of,
    messages_of,
    text_of,
    text_or_none,
    tools_of,
)

Row = dict[str, Any]
Turns = tuple[Message, ...]


@dataclass(frozen=True)
class Shape:
    """A format: the columns that make it, those that it may have, and how a row of it is read.

    mark: what its columns say besides, where others have the same columns: in words, and whether a row does.
    """

    name: str
    needs: frozenset[str]
    may_have: frozenset[str]
    read: Callable[[Row], tuple[Turns, Turns | None, bool | None]]
    mark: tuple[str, Callable[[Mapping[str, Any]], bool]] | None = None

    def example(self, row: Row, line: int) -> Example:
        """The row's example. Raises NotRead."""
        messages, rejected, label = self.read(row)
        own = self.needs | self.may_have
        rest = {name: value for name, value in row.items() if name not in own}
        holder = row["input"] if self.name == "openai_preference" else row
        tools = tools_of(holder.get("tools")) if "tools" in own else ()
        return Example(messages, rejected, label, tools, rest, line)

    def remarks(self, row: Row) -> Iterator[tuple[str, str]]:
        """What was changed in reading the row: rules and messages."""
        if self.name == "alpaca" and row.get("input"):
            yield "input_joined", "instruction and input became one message, with an empty line between."
        given = row.get("input")
        asked = given.get("messages") if isinstance(given, dict) else None
        lists = [asked, *(row.get(column) for column in ("messages", "conversations", "prompt", "chosen"))]
        turns = (turn for one in lists if isinstance(one, list) for turn in one if isinstance(turn, dict))
        if any("developer" in (turn.get("role"), turn.get("from")) for turn in turns):
            yield "developer_role", "The role developer became system."


def shape_of(row: Mapping[str, Any]) -> Shape | None:
    """The shape whose columns the row has; None when it has those of none."""
    columns = row.keys()
    for shape in SHAPES:
        if shape.needs <= columns and (shape.mark is None or shape.mark[1](row)):
            return shape
    return None


def _openai(row: Row) -> tuple[Turns, None, None]:
    return messages_of(row["messages"], "messages"), None, None


def _sharegpt(row: Row) -> tuple[Turns, None, None]:
    return _system(row) + messages_of(row["conversations"], "conversations"), None, None


def _alpaca(row: Row) -> tuple[Turns, None, None]:
    asked = text_of(row["instruction"], "instruction")
    if given := text_or_none(row.get("input"), "input"):
        asked = f"{asked}\n\n{given}"
    turns = (Message("user", asked), Message("assistant", text_of(row["output"], "output")))
    return _system(row) + _history(row.get("history")) + turns, None, None


def _history(value: object) -> Turns:
    if value is None:
        return ()
    if not isinstance(value, list):
        hint = 'Write [["question", "answer"], ...].'
        raise NotRead("not_a_list", f"history is {kind_of(value)}, not a list.", hint)
    turns: list[Message] = []
    for place, item in enumerate(value):
        if not isinstance(item, list) or len(item) != 2:
            hint = 'Write ["question", "answer"].'
            raise NotRead("history", f"history[{place}] is no pair of texts.", hint)
        turns.append(Message("user", text_of(item[0], f"history[{place}]")))
        turns.append(Message("assistant", text_of(item[1], f"history[{place}]")))
    return tuple(turns)


def _chatml(row: Row) -> tuple[Turns, None, None]:
    return chatml_turns(text_of(row["text"], "text")), None, None


def _question_answer(row: Row) -> tuple[Turns, None, None]:
    asked, answer = text_of(row["question"], "question"), text_of(row["answer"], "answer")
    return (*_system(row), Message("user", asked), Message("assistant", answer)), None, None


def _anthropic(row: Row) -> tuple[Turns, None, None]:
    return anthropic_turns(row["prompt"], text_of(row["completion"], "completion")), None, None


def _prompt_completion(row: Row) -> tuple[Turns, None, None]:
    return _prompt(row["prompt"]) + _ends(row["completion"], "completion"), None, None


def _kto(row: Row) -> tuple[Turns, None, bool]:
    label = row["label"]
    if label not in (True, False) or not isinstance(label, bool):
        hint = "Write true for a good answer and false for a bad one."
        raise NotRead("label", f"label is {kind_of(label)}, not true or false.", hint)
    turns, _, _ = _prompt_completion(row)
    return turns, None, label


def _dpo(row: Row) -> tuple[Turns, Turns, None]:
    chosen, rejected = _ends(row["chosen"], "chosen"), _ends(row["rejected"], "rejected")
    prompt = _prompt(row["prompt"]) if "prompt" in row else chosen[:-1]
    return prompt + _end_after(prompt, chosen, "chosen"), _end_after(prompt, rejected, "rejected"), None


def _openai_preference(row: Row) -> tuple[Turns, Turns, None]:
    given = row["input"]
    if not isinstance(given, dict) or "messages" not in given:
        hint = 'Write {"messages": [...]}.'
        raise NotRead("preference_input", "input is no object with messages.", hint)
    if unknown := given.keys() - {"messages", "tools"}:
        raise NotRead("preference_input", f"input has the key {min(unknown)!r}.", "Take it out.")
    better = messages_of(row["preferred_output"], "preferred_output")
    worse = messages_of(row["non_preferred_output"], "non_preferred_output")
    prompt = messages_of(given["messages"], "input.messages")
    return (
        prompt + _end_after(prompt, better, "preferred_output"),
        _end_after(prompt, worse, "non_preferred_output"),
        None,
    )


def _sharegpt_preference(row: Row) -> tuple[Turns, Turns, None]:
    prompt = _system(row) + messages_of(row["conversations"], "conversations")
    return (
        (*prompt, message_of(row["chosen"], "chosen")),
        (message_of(row["rejected"], "rejected"),),
        None,
    )


def _system(row: Row) -> Turns:
    said = text_or_none(row.get("system"), "system")
    return (Message("system", said),) if said else ()


def _prompt(value: object) -> Turns:
    return (Message("user", value),) if isinstance(value, str) else messages_of(value, "prompt")


def _ends(value: object, column: str) -> Turns:
    return (Message("assistant", value),) if isinstance(value, str) else messages_of(value, column)


def _end_after(prompt: Turns, end: Turns, column: str) -> Turns:
    """The one answer that is left of `end` when the prompt, which some files repeat in it, is taken off."""
    left = end[len(prompt) :] if len(end) > 1 and end[: len(prompt)] == prompt else end
    if len(left) != 1 or not prompt:
        hint = "The two ends share everything but their last message; put the rest into the prompt."
        raise NotRead("preference_end", f"{column} is not one answer to the prompt.", hint)
    return left


def _shape(name: str, read: Callable[[Row], Any], needs: str, may_have: str = "") -> Shape:
    return Shape(name, frozenset(needs.split()), frozenset(may_have.split()), read, _MARKS.get(name))


_MARKS = {
    "anthropic": ("turns of Human and Assistant", lambda row: is_anthropic_prompt(row["prompt"])),
    "chatml": ("turns of ChatML", lambda row: "<|im_start|>" in str(row["text"])),
}


SHAPES: tuple[Shape, ...] = (
    _shape("openai_preference", _openai_preference, "input preferred_output non_preferred_output", "tools"),
    _shape("sharegpt_preference", _sharegpt_preference, "conversations chosen rejected", "system tools"),
    _shape("dpo", _dpo, "chosen rejected", "prompt tools"),
    _shape("openai", _openai, "messages", "tools"),
    _shape("sharegpt", _sharegpt, "conversations", "system tools"),
    _shape("kto", _kto, "prompt completion label", "tools"),
    _shape("anthropic", _anthropic, "prompt completion", "tools"),
    _shape("prompt_completion", _prompt_completion, "prompt completion", "tools"),
    _shape("alpaca", _alpaca, "instruction output", "input system history"),
    _shape("question_answer", _question_answer, "question answer", "system"),
    _shape("chatml", _chatml, "text"),
)
