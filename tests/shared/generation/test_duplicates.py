"""Which pairs repeat others, whatever the order in which they were made."""

import random

import pytest

from shared.generation.duplicates import Asked, duplicates

STEPS = "The spiral stair inside the tower has 187 steps."


def asked(chunk: int, ordinal: int, question: str, answer: str = STEPS, *, is_sound: bool = True) -> Asked:
    pair_id = f"{chunk}-{ordinal}"
    return Asked(pair_id, (chunk, ordinal, pair_id), question, answer, is_sound)


def test_the_later_one_in_the_documents_is_marked_whichever_was_made_first() -> None:
    pairs = [
        asked(1, 0, "How many steps does the spiral stair inside the tower have?"),
        asked(2, 0, "how MANY steps does the spiral stair\ninside the tower have?"),
        asked(3, 0, "So how many steps does the spiral stair inside the tower have?"),
        asked(3, 1, "Who steers the ferry to the mainland on Tuesdays?", "Nobody does."),
    ]
    expected = [("2-0", "duplicate_question"), ("3-0", "near_duplicate")]
    for seed in range(20):
        random.Random(seed).shuffle(pairs)
        assert duplicates(pairs) == expected


@pytest.mark.parametrize(
    ("first", "second", "answers"),
    [
        ("What is said there about floor 1?", "What is said there about floor 2?", (STEPS, STEPS)),
        ("What does the keeper Ivo do at night?", "What does the keeper Nell do at night?", ("a", "a")),
        (
            'What does "Opening hours and tickets" say about children?',
            'What does "Opening hours and tickets" say about refunds?',
            ("Children under six enter free.", "Tickets are refunded when the ferry cannot sail."),
        ),
    ],
)  # fmt: skip
def test_questions_that_are_built_alike_are_not_the_same(
    first: str, second: str, answers: tuple[str, str]
) -> None:
    assert duplicates([asked(1, 0, first, answers[0]), asked(2, 0, second, answers[1])]) == []


def test_a_pair_that_is_of_no_use_makes_no_other_a_duplicate() -> None:
    question = "How many steps does the stair have?"
    pairs = [asked(1, 0, question, is_sound=False), asked(2, 0, question), asked(3, 0, question)]
    assert duplicates(pairs) == [("3-0", "duplicate_question")]


def test_conversations_that_only_begin_alike_are_different() -> None:
    def row(number: int, last: str) -> Asked:
        said = ["How high is the tower?", "It stands 41 metres above the water.", last, "Yes."]
        turns = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, said)]  # noqa: B905 - equally long
        columns = {"id": str(number), "chunk_id": "c", "ordinal": number, "issues": []}
        return Asked.from_row(
            columns | {"messages": turns, "user_message": None, "assistant_message": None}, number
        )

    asked_twice = [
        row(1, "And is it old?"),
        row(2, "And who has painted its bands?"),
        row(3, "And is it old?"),
    ]
    assert duplicates(asked_twice) == [("3", "duplicate_question")]
