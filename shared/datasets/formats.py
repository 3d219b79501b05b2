"""Pairs of the stack as the rows of a training file.

How a row is written is told by `writing`, the same for pairs and for rows of files; here a pair that cannot
be written is refused by its id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, get_args

from shared.datasets import writing
from shared.datasets.model import Pair
from shared.datasets.writing import NotHeld, line_of, row_of
from shared.errors import InvalidRequest

Format = Literal["openai", "anthropic", "alpaca", "sharegpt", "chatml"]  # that a dataset may be made in
FORMATS: tuple[Format, ...] = get_args(Format)


def record(pair: Pair, format: str, *, with_metadata: bool = False) -> dict[str, Any]:
    """The pair as one object of this format, any of `writing.FORMATS`. Its own columns are left out, unless
    asked for with_metadata.

    Raises InvalidRequest when the format cannot hold the pair.
    """
    _require_turns(pair)
    marker = turn_marker_in(pair, format)
    if marker is not None:
        raise InvalidRequest(
            f"Pair {pair.id} contains {marker.strip()!r}, which begins a turn in {format}. "
            "Edit or reject the pair, or choose the format openai.",
            code="turn_marker_in_pair",
            details={"pairId": str(pair.id)},
        )
    try:
        return row_of(pair.as_example(), format, with_metadata=with_metadata)
    except NotHeld as reason:
        raise InvalidRequest(
            f"{format} cannot hold pair {pair.id}: it has {reason}. "
            "Choose another format, or edit or reject the pair.",
            code="not_held",
            details={"pairId": str(pair.id)},
        ) from None


def preference(pair: Pair) -> dict[str, Any]:
    """A conversation with a better and a worse end, as OpenAI reads it, and Together and Azure after it.

    Raises InvalidRequest for a pair that has no worse end. The format:
    developers.openai.com/api/docs/guides/direct-preference-optimization, 2026-11-21.
    """
    if pair.rejected is None:
        raise InvalidRequest(
            f"Pair {pair.id} has no rejected answer to learn from. Add one, or use another method.",
            code="rejected_message_missing",
            details={"pairId": str(pair.id)},
        )
    return record(pair, "openai_preference")


def labelled(pair: Pair) -> dict[str, Any]:
    """A conversation, and whether its answer is a good one: what our trainer reads for KTO.

    Raises InvalidRequest for a pair that has no label.
    """
    if pair.is_desirable is None:
        raise InvalidRequest(
            f"Pair {pair.id} does not say whether its answer is good. Label it, or use another method.",
            code="label_missing",
            details={"pairId": str(pair.id)},
        )
    _require_turns(pair)
    tools = {"tools": list(pair.tools)} if pair.tools else {}
    return {"messages": [message.as_dict() for message in pair.messages], **tools, "label": pair.is_desirable}


def anchor_and_positive(pair: Pair) -> dict[str, Any]:
    """The first question and its answer, for a model that is to find the second by the first."""
    _require_turns(pair)
    asked, answer = pair.turns[:2]
    return {"anchor": asked.content, "positive": answer.content}


def turn_marker_in(pair: Pair, format: str) -> str | None:
    """The first marker of this format that stands inside a message; None when there is none."""
    return writing.turn_marker_in(pair.as_example(), format)


def jsonl(pairs: Iterable[Pair], format: str) -> bytes:
    """UTF-8, one line a pair, in the order given. Equal pairs give equal bytes."""
    return lines(record(pair, format) for pair in pairs)


def lines(records: Iterable[dict[str, Any]]) -> bytes:
    """UTF-8, one line a record."""
    return b"".join(map(line_of, records))


def _require_turns(pair: Pair) -> None:
    if not pair.alternates:
        raise InvalidRequest(
            f"In pair {pair.id} user and assistant do not take turns. Edit or reject the pair.",
            code="turn_order",
            details={"pairId": str(pair.id)},
        )
