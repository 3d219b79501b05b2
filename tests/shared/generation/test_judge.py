"""A second look at pairs: its verdicts are stored with them, and it cannot be talked into anything either."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from shared.generation.language_model import Asking, LanguageModelGenerator
from shared.generation.pairs import make_pairs
from shared.generation.source import SourceChunk
from shared.llm.base import Completion, JsonSchema, Turn

CHUNK = SourceChunk("The lamp turns once every 24 seconds. It was lit in 1862.", 0, ("Lamp",))
EXAMPLES = {
    "examples": [
        {"turns": [{"user": "How often does it turn?", "assistant": "Once every 24 seconds."}], "quote": ""},
        {"turns": [{"user": "When was it lit?", "assistant": "It was lit in 1862."}], "quote": ""},
    ]
}


class Judging:
    """Gives the examples, then these verdicts."""

    name, at_once = "judging/one", 1

    def __init__(self, verdicts: Any) -> None:
        self.verdicts = verdicts
        self.asked: list[Sequence[Turn]] = []

    async def complete(self, turns: Sequence[Turn], *, json_schema: JsonSchema | None = None) -> Completion:
        self.asked.append(turns)
        if len(self.asked) == 1:
            return Completion(json.dumps(EXAMPLES), 100, 20)
        marker = turns[0].content.rsplit(": ", 1)[1].strip()
        return Completion(json.dumps(self.verdicts).replace("MARKER", marker), 60, 5)

    async def close(self) -> None:
        pass


def verdict(number: int, verdict: str, reason: str = "") -> dict[str, Any]:
    return {"number": number, "verdict": verdict, "reason": reason}


async def judged(verdicts: Any) -> tuple[list[dict[str, Any]], Judging]:
    model = Judging({"verdicts": verdicts})
    generator = LanguageModelGenerator(model, "qa", None, asking=Asking(judge=True))
    made = await make_pairs(CHUNK, generator, 3, system_prompt=None)
    assert made.usage == {"filtered_count": 0, "prompt_tokens": 160, "completion_tokens": 25}
    return made.pairs, model


async def test_what_is_unsupported_is_marked_with_its_reason() -> None:
    pairs, model = await judged(
        [verdict(2, "unsupported", "The year is \u200bfor the tower."), verdict(1, "supported")]
    )
    assert [(pair["judge_score"], pair["is_valid"]) for pair in pairs] == [(1.0, True), (0.0, False)]
    assert pairs[1]["issues"] == ["judge_unsupported"]
    assert pairs[1]["issue_details"] == {"judge_unsupported": ["The year is for the tower."]}
    system, user = model.asked[1]
    assert CHUNK.content in user.content
    assert "Example 2\nUser: When was it lit?\nAssistant: It was lit in 1862." in user.content
    assert CHUNK.content not in system.content


@pytest.mark.parametrize(
    "verdicts",
    [
        [],
        [verdict(3, "unsupported"), verdict(0, "unsupported"), {"number": 1}, "x", None],
        [verdict(1, "maybe"), verdict(2, "MARKER")],
        [verdict(1, "supported", "The marker is MARKER"), verdict(2, "supported")],
        "I would rather not.",
    ],
)
async def test_no_verdict_is_made_up(verdicts: Any) -> None:
    pairs, _ = await judged(verdicts)
    assert [(pair["judge_score"], pair["is_valid"]) for pair in pairs] == [(None, True), (None, True)]


async def test_the_first_verdict_on_an_example_counts() -> None:
    pairs, _ = await judged([verdict(1, "unsupported"), verdict(1, "supported"), verdict(2, "supported")])
    assert [pair["judge_score"] for pair in pairs] == [0.0, 1.0]


async def test_nobody_is_asked_twice_when_nobody_shall_judge() -> None:
    model = Judging({})
    await make_pairs(CHUNK, LanguageModelGenerator(model, "qa", None), 3, system_prompt=None)
    assert len(model.asked) == 1
