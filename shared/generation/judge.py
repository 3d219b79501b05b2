"""A second look at pairs by a model: whether each is supported by its source, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from shared.errors import ProviderUnavailable
from shared.generation.leaks import gives_away
from shared.generation.model_answer import read_list, texts_in
from shared.generation.source import Draft, Verdict

_MAX_REASON_CHARS = 300

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdicts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "number": {"type": "integer"},
                    "reason": {"type": "string"},
                    "verdict": {"type": "string", "enum": ["supported", "unsupported"]},
                },
                "required": ["number", "reason", "verdict"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["verdicts"],
    "additionalProperties": False,
}


class _Said(BaseModel):
    number: int
    verdict: Literal["supported", "unsupported"]
    reason: str = ""


def examples_to_judge(drafts: Sequence[Draft]) -> str:
    """The examples, numbered from 1."""
    return "\n\n".join(
        f"Example {number}\n"
        + "\n".join(f"User: {user}\nAssistant: {answer}" for user, answer in draft.turns)
        for number, draft in enumerate(drafts, start=1)
    )


def read_verdicts(text: str, count: int, marks: Sequence[str], rules: str) -> list[Verdict | None]:
    """A verdict on each of `count` examples; None where the model gave none.

    None for all when it gives away a mark of the prompt, or answers something else: the examples are paid
    for, and are not asked for anew because of a judge.
    """
    found: list[Verdict | None] = [None] * count
    try:
        items, _ = read_list(text, "verdicts")
    except ProviderUnavailable:
        return found
    if gives_away([text, *texts_in(items)], marks, rules):
        return found
    for item in items[: 2 * count]:
        try:
            said = _Said.model_validate(item)
        except ValidationError:
            continue
        if 1 <= said.number <= count and found[said.number - 1] is None:
            found[said.number - 1] = Verdict(said.verdict == "supported", said.reason[:_MAX_REASON_CHARS])
    return found
