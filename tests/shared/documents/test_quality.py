import pytest

from shared.documents.quality import WEIGHTS, quality_factors, quality_score, words

PROSE = (
    "The tower has many steps. A keeper climbs them at dusk, and the lamp begins to turn above the bay.\n\n"
)


def score(text: str, token_count: int) -> float:
    return quality_score(quality_factors(text, token_count))


@pytest.mark.parametrize("text", ["", " ", "🦩" * 50, "|||", "\u200b", "```\ncode\n```"])
def test_the_score_stays_in_its_range(text: str) -> None:
    assert 0 <= score(text, 10) <= 1


def test_prose_beats_repetition_beats_fragments() -> None:
    prose = score("# Tower\n\n" + PROSE + "- Its door is oak and opens outwards.\n", 100)
    repeated = score("click here to read more " * 20, 100)
    fragments = score("x\ny\nz", 3)
    assert prose > 0.75 > repeated > fragments


def test_code_and_markup_score_low() -> None:
    assert score("```\n" + "int x = y[3]; foo(x);\n" * 10 + "```", 100) < 0.6


def test_a_character_of_a_script_without_blanks_is_a_word() -> None:
    assert words("灯塔 It's ok") == ["灯", "塔", "it's", "ok"]


def test_the_factors_say_what_the_score_is_made_of() -> None:
    factors = quality_factors(PROSE, 50)
    assert factors.keys() == WEIGHTS.keys()
    assert (factors["length"], factors["structure"], factors["coherence"]) == (0.5, 0.6, 1.0)
    assert quality_score(factors) == pytest.approx(
        0.3 * 0.5 + 0.25 * factors["vocabulary"] + 0.2 * 0.6 + 0.25
    )
