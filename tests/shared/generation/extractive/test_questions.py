"""Statements of handbooks and readmes, and the question that each should raise first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.generation.extractive.english import noun_phrases, parse, words_of
from shared.generation.extractive.statements import ask

TOLD = {
    "The Skerrow tower was finished on 14 March 1862.": "When was the Skerrow tower finished?",
    "The spiral stair has 187 steps and a bench.": "How many steps does the spiral stair have?",
    "The lantern room holds eight panes of glass, and each weighs a lot.": (
        "How many panes of glass does the lantern room hold?"
    ),
    "The red paint is called Kettle Red.": "What is the red paint called?",
    "A day ticket for a child between six and fifteen years costs 5 crowns.": (
        "How much does a day ticket for a child between six and fifteen years cost?"
    ),
    "The crossing takes 16 minutes in calm weather.": "How long does the crossing take in calm weather?",
    "The causeway is 1,240 metres long and is marked by posts.": "How long is the causeway?",
    "The lamp turns once every 24 seconds and shows two flashes.": "How often does the lamp turn?",
    "The bell rings 45 minutes before the water comes.": "When does the bell ring?",
    "The first head keeper was Josiah Pellworth, who stayed.": "Who was the first head keeper?",
    "The ferry is steered by Captain Bram Ostrander on most days.": "Who is the ferry steered by?",
    "A spare bulb is stored in the blue tin.": "Where is a spare bulb stored?",
    "The second keeper, Wilhelmina Crake, wrote the weather down.": "What did the second keeper write?",
    "Dogs may visit the island but may not climb the tower.": "What may dogs visit?",
    "The small box never holds more than 350 crowns.": "What does the small box never hold?",
    "A keeper who breaks a pane plants one tree.": "What does a keeper who breaks a pane plant?",
    "Tickets are refunded in full when the ferry cannot sail.": "When are tickets refunded in full?",
    "The earplugs are needed because the foghorn sounds.": "Why are the earplugs needed?",
    "The clockwork that turned the old lens is wound every Sunday at noon.": (
        "When is the clockwork that turned the old lens wound?"
    ),
    "At most 25 visitors may be in the tower at once.": "How many visitors may be in the tower at once?",
    "If the bell rings, visitors must leave the causeway.": "What must happen if the bell rings?",
    "To reset the device, hold the button.": "How do you reset the device?",
    "In 1907, a lost goat found the spring.": "What did a lost goat find in 1907?",
    "There are 17 apple trees in the orchard.": "How many apple trees are there in the orchard?",
    "Press the red button to stop the lamp.": "How do you stop the lamp?",
    "This function returns the number of rows.": 'In "Usage", what does this function return?',
    "The server doesn't support compression on old clients.": "What does the server not support?",
}


@pytest.mark.parametrize(("statement", "question"), TOLD.items())
def test_a_statement_raises_its_question(statement: str, question: str) -> None:
    assert [q.text for q in ask(statement, statement, "Usage")][:1] == [question]


@pytest.mark.parametrize(
    "unclear",
    [
        "It can be installed with any tool that you like.",
        "Returns the number of rows in the table.",
        "Due to the way it works, colours are not shown.",
        "Fast and light and easy to use.",
        "changes until the size does not change for a while.",
        "Hello",
        "",
    ],
)
def test_what_has_no_clear_subject_raises_none(unclear: str) -> None:
    assert ask(unclear, unclear, "Usage") == []


def test_names_keep_their_capitals_and_words_do_not() -> None:
    around = "Bosun is fat. Logbooks are old. Skerrow Light is far. We like Puffins Rock."
    firsts = [
        ask(f"{name} in the cellar by the sea.", around, None)[0].text
        for name in (
            "Bosun is kept",
            "Logbooks are kept",
            "Skerrow Light is kept",
        )
    ]
    assert firsts == [
        "Where is Bosun kept?",
        "Where are logbooks kept?",
        "Where is Skerrow Light kept?",
    ]


def test_phrases_end_before_verbs() -> None:
    assert noun_phrases("You can set the log level to keep the old files.") == [
        "the log level",
        "the old files",
    ]


PIECES = [*"aeT ,.;:()'\"-0123%", " the ", " is ", " who ", " keeps ", "\u2019", "Every box "]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_no_sentence_breaks_it(sentence: str) -> None:
    parse(words_of(sentence))
    for question in ask(sentence, sentence, "Heading"):
        assert question.text.endswith("?")
        assert "\n" not in question.text
