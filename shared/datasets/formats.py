"""One pair in the shape that a trainer of each kind reads. One JSON object a line.

openai     {"messages": [{"role", "content"}, ...]}
anthropic  {"prompt": "<system>\n\nHuman: ...\n\nAssistant:", "completion": " ..."}
alpaca     {"instruction", "input", "output"}, and "system" and "history" where a pair has them
sharegpt   {"conversations": [{"from": "system" | "human" | "gpt", "value"}, ...]}
chatml     {"text": "<|im_start|>role\ncontent<|im_end|>\n..."}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import orjson

from shared.datasets.model import Message, Pair
from shared.errors import InvalidRequest

Format = Literal["openai", "anthropic", "alpaca", "sharegpt", "chatml"]
FORMATS: tuple[Format, ...] = get_args(Format)

# Words that part the turns where a format is plain text. Inside a message they would forge a turn.
TURN_MARKERS: dict[Format, tuple[str, ...]] = {
    "anthropic": ("\n\nHuman:", "\n\nAssistant:"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}
_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def record(pair: Pair, format: Format) -> dict[str, Any]:
    """The pair as one object of this format. Raises InvalidRequest when it cannot be said in it."""
    _require_turns(pair)
    marker = turn_marker_in(pair, format)
    if marker is not None:
        raise InvalidRequest(
            f"Pair {pair.id} contains {marker.strip()!r}, which begins a turn in {format}. "
            "Edit or reject the pair, or choose the format openai.",
            code="turn_marker_in_pair",
            details={"pairId": str(pair.id)},
        )
    return _WRITERS[format](pair)


def preference(pair: Pair) -> dict[str, Any]:
    """A conversation with a better and a worse end, as OpenAI reads it, and Together and Azure after it.

    Raises InvalidRequest for a pair that has no worse end. The format:
    developers.openai.com/api/docs/guides/direct-preference-optimization, 2026-11-21.
    """
    _require_turns(pair)
    if pair.rejected is None:
        raise InvalidRequest(
            f"Pair {pair.id} has no rejected answer to learn from. Add one, or use another method.",
            code="rejected_message_missing",
            details={"pairId": str(pair.id)},
        )
    *before, better = (message.as_dict() for message in pair.messages)
    return {
        "input": {"messages": before},
        "preferred_output": [better],
        "non_preferred_output": [{"role": "assistant", "content": pair.rejected}],
    }


def turn_marker_in(pair: Pair, format: Format) -> str | None:
    """The first marker of this format that stands inside a message; None when there is none."""
    markers = TURN_MARKERS.get(format, ())
    return next((mark for mark in markers for message in pair.messages if mark in message.content), None)


def jsonl(pairs: Iterable[Pair], format: Format) -> bytes:
    """UTF-8, one line a pair, in the order given. Equal pairs give equal bytes."""
    return lines(record(pair, format) for pair in pairs)


def lines(records: Iterable[dict[str, Any]]) -> bytes:
    """UTF-8, one line a record."""
    return b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in records)


def _require_turns(pair: Pair) -> None:
    if not pair.alternates:
        raise InvalidRequest(
            f"In pair {pair.id} user and assistant do not take turns. Edit or reject the pair.",
            code="turn_order",
            details={"pairId": str(pair.id)},
        )


def _openai(pair: Pair) -> dict[str, Any]:
    return {"messages": [message.as_dict() for message in pair.messages]}


def _anthropic(pair: Pair) -> dict[str, Any]:
    names = {"user": "Human", "assistant": "Assistant"}
    before = "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in pair.turns[:-1])
    return {
        "prompt": f"{pair.system or ''}{before}\n\nAssistant:",
        "completion": f" {pair.turns[-1].content}",
    }


def _alpaca(pair: Pair) -> dict[str, Any]:
    *earlier, question, answer = pair.turns
    row: dict[str, Any] = {"instruction": question.content, "input": "", "output": answer.content}
    if pair.system:
        row["system"] = pair.system
    if earlier:
        row["history"] = [
            [asked.content, said.content] for asked, said in zip(earlier[::2], earlier[1::2], strict=True)
        ]
    return row


def _sharegpt(pair: Pair) -> dict[str, Any]:
    return {"conversations": [{"from": _SHAREGPT_ROLES[m.role], "value": m.content} for m in pair.messages]}


def _chatml(pair: Pair) -> dict[str, Any]:
    def turn(message: Message) -> str:
        return f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n"

    return {"text": "".join(map(turn, pair.messages))}


_WRITERS: dict[Format, Callable[[Pair], dict[str, Any]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "chatml": _chatml,
}
