"""What an answer may say of its source, and what it may not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.generation.grounding.check import ungrounded

SOURCE = """# The lamp

The lens floats in 310 kilograms of mercury. Orla Tenmouth drew it on 2 June 1862.
It shows two white flashes and three red ones. The oldest logbook says "Fog, and no bread".
Run `lamp --on` at dusk. Captain Bram Ostrander steers from 9:00 to 17:30, except on Tuesdays."""


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        ("In 310 kg of mercury.", {}),
        ("Orla Tenmouth did, in 1862.", {}),
        ("It floats in 311 kilograms.", {"number_not_in_source": ["311"]}),
        ("It shows three white flashes and two red ones.", {"number_misplaced": ["three", "two"]}),
        ("He steers from 17:30 to 9:00.", {"number_misplaced": ["17:30", "9:00"]}),
        ("Bob drew it.", {}),  # what begins a sentence may be any word
        ("It was drawn by Bob Miller.", {"name_not_in_source": ["Bob", "Miller"]}),
        ("Olga Tenmouth drew it.", {"name_not_in_source": ["Olga"]}),
        ("He steers, except on Mondays.", {"name_not_in_source": ["Mondays"]}),
        ('It says "fog, and\u00a0no bread."', {}),
        ("It says \u201cFog \u2026 no bread\u201d.", {}),
        ('It says "Rain, and much bread".', {"quote_not_in_source": ["Rain, and much bread"]}),
        ("Run `lamp --off`.", {"quote_not_in_source": ["lamp --off"]}),
        ("", {}),
    ],
)
def test_each_rule(answer: str, rules: dict[str, list[str]]) -> None:
    assert ungrounded(answer, SOURCE) == rules


def test_what_the_user_says_may_be_repeated() -> None:
    answer = "No, a group of 30 with Mr Smith is too large."
    assert set(ungrounded(answer, SOURCE)) == {"number_not_in_source", "name_not_in_source"}
    assert ungrounded(answer, SOURCE, "May a group of 30 come with Mr Smith?") == {}


def test_german_nouns_are_no_names() -> None:
    source = "Der Turm ist 41 Meter hoch und wurde von der Familie Tenmouth gebaut. Das ist nicht alles."
    assert ungrounded("Die Höhe beträgt 41 m.", source) == {}
    assert ungrounded("Die Höhe beträgt 14 m.", source) == {"number_not_in_source": ["14"]}


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='0123456789.,:/-%" \u201c\u201d`aBone twoMarch\n*', max_size=80))
def test_a_text_is_grounded_in_itself(text: str) -> None:
    found = ungrounded(text, text)
    assert "quote_not_in_source" not in found
    assert "number_not_in_source" not in found
    assert "name_not_in_source" not in found
