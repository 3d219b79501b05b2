from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.generation.extractive.generator import ExtractiveGenerator
from shared.generation.pairs import grounding_score, make_pairs, quality_score
from shared.generation.safety import sanitised
from shared.generation.source import Draft, Drafts, SourceChunk, Verdicts

HANDBOOK = (Path(__file__).parents[3] / "examples/handbook.md").read_text()
SOURCE = 'The lens floats in 310 kilograms of mercury. Orla Tenmouth drew it. The words: "Fog, and no bread".'


class Proposing:
    """A generator that proposes what it was given."""

    name, prompt_hash = "proposing", None

    def __init__(self, *turns: tuple[str, str]) -> None:
        self._drafts = [Draft((turn,), 0, len(SOURCE)) for turn in turns]

    async def draft(self, chunk: SourceChunk, count: int) -> Drafts:
        return Drafts(self._drafts)

    async def judge(self, chunk: SourceChunk, drafts: Sequence[Draft]) -> Verdicts:
        return Verdicts()

    async def close(self) -> None:
        pass


async def test_extractive_pairs_need_no_model_and_are_valid() -> None:
    chunk = SourceChunk(HANDBOOK[:1038], 0, ("The tower",))
    made = await make_pairs(chunk, ExtractiveGenerator("qa"), 4, system_prompt=None)
    assert [pair["ordinal"] for pair in made.pairs] == [0, 1, 2, 3]
    for pair in made.pairs:
        assert (pair["is_valid"], pair["issues"], pair["messages"]) == (True, [], None)
        assert (pair["grounding_score"], pair["generator"], pair["prompt_hash"]) == (1.0, "extractive", None)
        assert 0.8 < pair["quality_score"] <= 1
        assert 10 < pair["token_count"] < 80


async def test_an_answer_out_of_thin_air_is_marked() -> None:
    turn = ("What?", "Nobody remembers whether 99 purple elephants danced with Napoleon Bonaparte.")
    made = await make_pairs(SourceChunk(SOURCE, 0), Proposing(turn), 1, system_prompt=None)
    assert made.pairs[0]["issues"] == ["number_not_in_source", "name_not_in_source", "not_grounded"]
    assert made.pairs[0]["issue_details"] == {
        "number_not_in_source": ["99"],
        "name_not_in_source": ["Napoleon", "Bonaparte"],
    }
    assert not made.pairs[0]["is_valid"]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("The lens floats in 310 kilograms of mercury.", 1.0),
        ("The lens floats in 999 kilograms of mercury.", 0.75),
        ("The lens, drawn by Bob Miller, floats.", 0.6),
        ('It says "Rain, and much bread" there.', 0.5),
        ("", 1.0),
    ],
)
def test_grounding_counts_words_numbers_names_and_quotes(answer: str, score: float) -> None:
    assert grounding_score(answer, SOURCE) == pytest.approx(score, abs=0.001)


def test_quality_falls_for_short_rambling_ungrounded_and_repeated_pairs() -> None:
    good = quality_score("x" * 100, 1.0, "What is the lens?", [])
    assert good == 1.0
    assert quality_score("x", 1.0, "What is the lens?", []) < good
    assert quality_score("x" * 5000, 1.0, "What is the lens?", []) < good
    assert quality_score("x" * 100, 0.2, "What is the lens?", []) < good
    assert quality_score("x" * 100, 1.0, "What is the lens?", ["What is a lens?"]) < good


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=3))
def test_what_is_kept_can_be_stored(turns: list[tuple[str, str]]) -> None:
    draft = sanitised(Draft(tuple(turns), 0, 1))
    if draft is not None:
        for turn in draft.turns:
            for message in turn:
                assert message.strip()
                assert not {"\0", "\u202e", "\ufeff"} & set(message)
                message.encode()
