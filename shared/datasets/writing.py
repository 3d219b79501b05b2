"""An example in each of the formats that files come in. What a format cannot hold is refused, never left out.

Reading what was written gives the same example again: see the test of the round trip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from shared.datasets.examples import Example
from shared.datasets.model import Message, plain
from shared.datasets.shapes import SHAPES, shape_of
from shared.datasets.turns import is_anthropic_prompt, says_turns

FORMATS = tuple(shape.name for shape in SHAPES)
_SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
# Words that part the turns where a format is plain text. Inside a message they would forge a turn.
TURN_MARKERS = {
    "anthropic": ("\n\nHuman:", "\n\nAssistant:"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}

Row = dict[str, Any]
Turns = Sequence[Message]


class NotHeld(Exception):
    """The format has no place for something that the example says; the message names it."""


def row_of(example: Example, format: str, *, with_metadata: bool = False) -> Row:
    """The example as a row of this format. Raises NotHeld.

    with_metadata: its other columns stand beside; without, they are left out, which the caller has to say.
    """
    if not example.messages:
        raise NotHeld("no message")
    row = _WRITERS[format](example)
    if with_metadata:
        shape = next(shape for shape in SHAPES if shape.name == format)
        if taken := example.metadata.keys() & (shape.needs | shape.may_have):
            raise NotHeld(f"a column {min(taken)!r}, which means something else here")
        row |= example.metadata
        if shape_of(row) is not shape:
            raise NotHeld("columns beside it that make another format of it")
    return row


def turn_marker_in(example: Example, format: str) -> str | None:
    """The first marker of this format that stands inside a message; None when there is none."""
    markers = TURN_MARKERS.get(format, ())
    return next((mark for mark in markers for turn in example.messages if mark in turn.content), None)


def _openai(example: Example) -> Row:
    _only(example)
    return {"messages": _dicts(example.messages)} | _tools(example)


def _sharegpt(example: Example) -> Row:
    _only(example)
    return {"conversations": [_sharegpt_turn(turn) for turn in example.messages]} | _tools(example)


def _anthropic(example: Example) -> Row:
    system, turns = _system_and_turns(example)
    _no_turn_marker(example, "anthropic")
    names = {"user": "Human", "assistant": "Assistant"}
    before = "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in turns[:-1])
    return {"prompt": f"{system or ''}{before}\n\nAssistant:", "completion": f" {turns[-1].content}"}


def _prompt_completion(example: Example) -> Row:
    _only(example)
    return _prompt_and(completion=(example.messages[-1],), example=example)


def _kto(example: Example) -> Row:
    if example.label is None:
        raise NotHeld("no label, which KTO needs")
    _only(example, label=True)
    return _prompt_and(completion=(example.messages[-1],), example=example) | {"label": example.label}


def _dpo(example: Example) -> Row:
    better, worse = _ends(example)
    return _prompt_and(chosen=better, rejected=worse, example=example)


def _openai_preference(example: Example) -> Row:
    better, worse = _ends(example)
    return {
        "input": {"messages": _dicts(example.prompt)} | _tools(example),
        "preferred_output": _dicts(better),
        "non_preferred_output": _dicts(worse),
    }


def _sharegpt_preference(example: Example) -> Row:
    better, worse = _ends(example)
    return {
        "conversations": [_sharegpt_turn(turn) for turn in example.prompt],
        "chosen": _sharegpt_turn(better[0]),
        "rejected": _sharegpt_turn(worse[0]),
    } | _tools(example)


def _alpaca(example: Example) -> Row:
    system, turns = _system_and_turns(example)
    *earlier, asked, answer = turns
    row: Row = {"instruction": asked.content, "input": "", "output": answer.content}
    if system is not None:
        row["system"] = system
    if earlier:
        pairs = zip(earlier[::2], earlier[1::2], strict=True)
        row["history"] = [[question.content, said.content] for question, said in pairs]
    return row


def _question_answer(example: Example) -> Row:
    system, turns = _system_and_turns(example)
    if len(turns) != 2:
        raise NotHeld("more than one question and one answer")
    row: Row = {"question": turns[0].content, "answer": turns[1].content}
    return row if system is None else row | {"system": system}


def _chatml(example: Example) -> Row:
    _only(example)
    _plain(example.messages)
    _no_tools(example)
    _no_turn_marker(example, "chatml")
    return {"text": "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in example.messages)}


def _no_turn_marker(example: Example, format: str) -> None:
    if marker := turn_marker_in(example, format):
        raise NotHeld(f"{marker.strip()!r} within a message, which begins a turn in {format}")


def _only(example: Example, *, label: bool = False, rejected: bool = False) -> None:
    if example.label is not None and not label:
        raise NotHeld("a label of good or bad")
    if example.rejected is not None and not rejected:
        raise NotHeld("a worse answer beside the better one")


def _ends(example: Example) -> tuple[Turns, Turns]:
    if example.rejected is None:
        raise NotHeld("no worse answer, which a preference needs")
    _only(example, rejected=True)
    if len(example.rejected) != 1 or not example.prompt:
        raise NotHeld("ends of several messages, or without a prompt")
    return example.messages[-1:], example.rejected


def _prompt_and(example: Example, **ends: Turns) -> Row:
    """Plain texts for one question with one answer; lists of messages for all else."""
    if not example.prompt:
        raise NotHeld("no prompt before the answer")
    prompt, last = example.prompt, [turn for end in ends.values() for turn in end]
    is_short = len(prompt) == 1 and prompt[0].role == "user" and all(m.role == "assistant" for m in last)
    said = [turn.content for turn in (*prompt, *last)]
    is_told_apart = not is_anthropic_prompt(said[0]) and not any(map(says_turns, said))
    if is_short and plain([*prompt, *last]) and is_told_apart:
        row: Row = {"prompt": prompt[0].content} | {name: end[0].content for name, end in ends.items()}
    else:
        row = {"prompt": _dicts(prompt)} | {name: _dicts(end) for name, end in ends.items()}
    return row | _tools(example)


def _system_and_turns(example: Example) -> tuple[str | None, list[Message]]:
    _only(example)
    _plain(example.messages)
    _no_tools(example)
    turns = list(example.messages)
    system = turns.pop(0).content if turns[0].role == "system" else None
    if system == "":
        raise NotHeld("a system message that is empty")
    roles = [turn.role for turn in turns]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise NotHeld("turns that are not question and answer in turn")
    return system, turns


def _sharegpt_turn(turn: Message) -> Row:
    _plain([turn])
    return {"from": _SHAREGPT_NAMES[turn.role], "value": turn.content}


def _plain(turns: Turns) -> None:
    if not plain(turns):
        raise NotHeld("calls of tools, names or weights")


def _no_tools(example: Example) -> None:
    if example.tools:
        raise NotHeld("definitions of tools")


def _tools(example: Example) -> Row:
    return {"tools": list(example.tools)} if example.tools else {}


def _dicts(turns: Turns) -> list[Row]:
    return [turn.as_dict() for turn in turns]


_WRITERS: dict[str, Callable[[Example], Row]] = {
    "openai": _openai,
    "sharegpt": _sharegpt,
    "anthropic": _anthropic,
    "prompt_completion": _prompt_completion,
    "kto": _kto,
    "dpo": _dpo,
    "openai_preference": _openai_preference,
    "sharegpt_preference": _sharegpt_preference,
    "alpaca": _alpaca,
    "question_answer": _question_answer,
    "chatml": _chatml,
}


def line_of(row: Row) -> bytes:
    """The row as one line of JSONL, with its newline."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
