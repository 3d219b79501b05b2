"""Which questions are picked, and when an answer is right."""

import pytest

from cli.demo.chapters import pairs_per_chunk
from cli.demo.facts import Facts, median_ms, shortfall
from cli.demo.questions import Question, is_right, pick_questions

PAIRS = [{"user_message": f"Question {n}?", "assistant_message": f"Answer {n}."} for n in range(50)]


def test_questions_are_spread_and_the_same_for_the_same_seed() -> None:
    picked = pick_questions(PAIRS, 5, seed=7)
    assert picked == pick_questions(PAIRS, 5, seed=7)
    numbers = [int(one.text.split()[1][:-1]) for one in picked]
    assert [number // 10 for number in numbers] == [0, 1, 2, 3, 4]


def test_a_question_with_two_answers_is_never_picked() -> None:
    twice = [{"user_message": "question  0?", "assistant_message": "Another."}]
    assert all(one.text != "Question 0?" for one in pick_questions([*PAIRS[:6], *twice], 6, seed=1))


def test_few_pairs_are_all_asked_and_conversations_are_left_out() -> None:
    conversation = {"user_message": None, "assistant_message": None, "messages": []}
    assert pick_questions([*PAIRS[:2], conversation], 5, seed=1) == [
        Question("Question 0?", "Answer 0."),
        Question("Question 1?", "Answer 1."),
    ]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The tower has 187 steps.", True),
        ("the  TOWER has\n187 steps.", True),
        ("I know: The tower has 187 steps. Indeed.", True),
        ("The tower has 188 steps.", False),
        ("The tower", False),
        ("", False),
    ],
)
def test_an_answer_is_right_when_it_says_what_was_expected(answer: str, right: bool) -> None:
    assert is_right(answer, "The tower has 187 steps.") is right


def test_an_empty_expectation_is_never_met() -> None:
    assert not is_right("anything", " ")


@pytest.mark.parametrize(
    ("before", "after", "asked", "proved"),
    [
        (0, 5, 5, True),
        (0, 4, 5, True),
        (0, 3, 5, False),
        (1, 5, 5, False),
        (0, None, 5, False),
        (0, 0, 0, False),
    ],
)
def test_the_demo_proves_training_only_by_before_and_after(before, after, asked, proved) -> None:
    facts = Facts(questions=asked, answers_right_before=before, answers_right_after=after)
    assert (shortfall(facts) is None) is proved


def test_the_median_of_nothing_is_unknown() -> None:
    assert median_ms([]) is None
    assert median_ms([1.04, 9.0, 2.06]) == 2.1


def test_a_short_document_gives_more_pairs_a_chunk_than_a_long_one() -> None:
    assert [pairs_per_chunk(chunks) for chunks in (0, 1, 5, 14, 20, 5000)] == [10, 10, 10, 4, 3, 2]
