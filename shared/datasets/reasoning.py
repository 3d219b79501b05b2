"""Thinking aloud before an answer, in the way that open models are trained on and templates know it:

    <think>
    The handbook gives the steps of the stair: 187.
    </think>

    The stair has 187 steps.

It stands in the assistant's message, so that every format carries it; what does not want it takes it out.
"""

from __future__ import annotations

import re
from dataclasses import replace

from shared.datasets.model import Message, Pair

_THOUGHT = re.compile(r"\s*<think>\n?(.*?)\n?</think>\s*", re.S)


def with_reasoning(reasoning: str, answer: str) -> str:
    """The assistant's message; without reasoning, the answer as it is."""
    return f"<think>\n{reasoning}\n</think>\n\n{answer}" if reasoning else answer


def split_reasoning(message: str) -> tuple[str, str]:
    """What the message thinks first, and what it answers; an empty text where it does not think."""
    thought = _THOUGHT.match(message)
    return (thought[1], message[thought.end() :]) if thought else ("", message)


def without_reasoning(pair: Pair) -> Pair:
    """The same pair, and nobody thinks aloud in it."""
    rejected = None if pair.rejected is None else split_reasoning(pair.rejected)[1]
    return replace(pair, messages=tuple(map(_answer_of, pair.messages)), rejected=rejected)


def _answer_of(message: Message) -> Message:
    return (
        replace(message, content=split_reasoning(message.content)[1])
        if message.role == "assistant"
        else message
    )
