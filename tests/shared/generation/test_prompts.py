"""The prompts of a project: what may be put in their place, and how chunks differ in what is asked."""

from itertools import pairwise
from pathlib import Path

import pytest

from shared.errors import InvalidRequest
from shared.generation.prompt_set import MAX_PROMPT_CHARS, PROMPTS, Prompts, check_prompt, default_prompt
from shared.generation.variety import Variety

FOLDER = Path(__file__).parents[3] / "shared/generation/prompts"


def test_every_file_is_a_prompt_that_can_be_used() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PROMPTS)
    for name in PROMPTS:
        check_prompt(name, default_prompt(name))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("poem", "x", "There are: rules, source"),
        ("qa", "  \n", "It is empty"),
        ("qa", "x" * (MAX_PROMPT_CHARS + 1), "8,001 characters; 8,000 are the most"),
        ("qa", "a\0b", "NUL"),
        ("source", "$content $fence\n$5 a month", "Line 2 has a $ that begins no variable. Write $$"),
        ("source", "$content $fence $secret", "$secret is no variable of it. Known: $content"),
        ("source", "$content", "It lacks $fence"),
        ("rules", "$task $count $shape", "It lacks $canary"),
        ("judge", "Judge. $shape", "It lacks $canary"),
        ("variety", "For $audience.\n# Audiences\n- a\n# Genres\n- b", 'under the heading "# Styles"'),
        ("variety", "For $whom.\n# Audiences\n- a\n# Genres\n- b\n# Styles\n- c", "$whom is no variable"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_a_remedy(name: str, content: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Prompts({name: content})
    assert refused.value.code == "prompt_invalid"
    assert says in refused.value.message


def test_a_prompt_of_the_project_takes_the_place_of_the_file_and_changes_the_hash() -> None:
    own = Prompts({"qa": "Ask about $ and money.", "source": "<$fence>$content</$fence>"})
    assert own.text("qa") == "Ask about $ and money."
    assert own.text("rules") == default_prompt("rules")
    assert own.filled("source", content="$x", fence="f", section="s") == "<f>$x</f>"
    assert own.hash(["qa"]) != Prompts().hash(["qa"])
    assert own.hash(["rules"]) == Prompts().hash(["rules"])
    assert own.hash(["rules"], ("a",)) != own.hash(["rules"], ("b",))


def test_chunks_go_through_every_mixture_and_neighbours_differ() -> None:
    variety = Variety.of(Prompts())
    count = len(variety.audiences) * len(variety.genres) * len(variety.styles)
    lines = [variety.for_chunk(ordinal) for ordinal in range(count)]
    assert len(set(lines)) == count >= 60
    assert all(one != other for one, other in pairwise(lines))
    assert variety.for_chunk(7) == Variety.of(Prompts()).for_chunk(7)


def test_audiences_and_styles_of_the_dataset_go_before_those_of_the_prompt() -> None:
    variety = Variety.of(Prompts(), audiences=("a nurse with $5",), styles=("in verse",))
    lines = [variety.for_chunk(ordinal) for ordinal in range(6)]
    assert all("a nurse with $5" in line and "in verse" in line for line in lines)
    assert len(set(lines)) == 6  # the genres stay
