"""The order in which a reviewer sees pairs."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

from tests.supabase.reviewers import Connection, Reviewers, refused


def test_the_riskiest_come_first_each_with_its_reasons(database: Connection) -> None:
    desk = Reviewers(database)
    good = {"grounding_score": 0.9, "quality_score": 0.9}
    expected = {}
    for number in range(30):
        expected[desk.add(f"Door {number} opens at {number} o'clock, every day.", **good)] = []
    riskier = [
        ("unsupported", {"issues": ["number_not_in_source"], "is_valid": False}),
        ("unsupported", {"grounding_score": 0.2}),
        ("judge_disagrees", {"judge_score": 0.1}),
        ("near_duplicate", {"issues": ["near_duplicate"], "is_valid": False}),
        ("odd_length", {"assistant_message": "Yes."}),
        ("odd_length", {"assistant_message": "It is long. " * 200}),
        ("issue", {"issues": ["too_long"], "is_valid": False}),
    ]
    for reason, columns in riskier:
        expected[desk.add(**{"assistant": "Door x opens at 7 o'clock, every day.", **good, **columns})] = [
            reason
        ]
    seen = desk.add("No.", **good, review_status="approved", issues=["not_grounded"], is_valid=False)
    rows = desk.rows(
        "select id, risk_reasons, risk_score from public.pairs_to_review where dataset_id = %s"
        " order by is_pending desc, risk_score desc, id",
        desk.dataset,
    )
    assert {row["id"]: row["risk_reasons"] for row in rows[:-1]} == expected
    assert (rows[-1]["id"], rows[-1]["risk_reasons"]) == (seen, ["unsupported", "odd_length"])
    first = [row["risk_reasons"][0] for row in rows if row["risk_reasons"]][:4]
    assert first == ["unsupported", "unsupported", "near_duplicate", "judge_disagrees"]
    assert [row["risk_reasons"] for row in rows[7:-1]] == [[]] * 30


def test_a_judge_and_the_checks_may_disagree_either_way(database: Connection) -> None:
    desk = Reviewers(database)
    by_checks, by_judge = {"issues": ["number_misplaced"]}, {"issues": ["judge_unsupported"]}
    expected = {
        desk.add(is_valid=False, **by_checks, judge_score=1): ["unsupported", "judge_disagrees"],
        desk.add(is_valid=False, **by_judge, judge_score=0): ["judge_disagrees"],
        desk.add(is_valid=False, issues=["number_misplaced", "judge_unsupported"], judge_score=0): [
            "unsupported"
        ],
        desk.add(judge_score=1): [],
        desk.add(): [],
    }
    rows = desk.rows(
        "select id, risk_reasons from public.pairs_to_review where dataset_id = %s", desk.dataset
    )
    assert {row["id"]: row["risk_reasons"] for row in rows} == expected


def test_a_page_of_them_by_the_filter_of_the_bulk_actions(database: Connection) -> None:
    desk = Reviewers(database)
    bad = [desk.add(grounding_score=n / 10, split="test") for n in range(3)]
    desk.add(grounding_score=0.0)

    def page(condition: dict[str, object], limit: int, offset: int) -> list[object]:
        with desk.acting("viewer"):
            rows = desk.rows(
                "select id from public.riskiest_pairs(%s, %s, %s, %s)",
                desk.dataset,
                Jsonb(condition),
                limit,
                offset,
            )
        return [row["id"] for row in rows]

    assert page({"split": "test"}, 2, 0) == bad[:2]
    assert page({"split": "test"}, 2, 2) == bad[2:]
    assert len(page({}, 10, 0)) == 4
    with refused("invalid_filter", 422):
        page({"colour": "red"}, 1, 0)


@pytest.mark.parametrize("answers", [["Yes."], ["Yes."] * 9, ["Yes."] * 9 + ["No, it is not."]])
def test_answers_of_one_length_are_not_odd(database: Connection, answers: list[str]) -> None:
    desk = Reviewers(database)
    for answer in answers:
        desk.add(answer)
    rows = desk.rows("select risk_reasons from public.pairs_to_review where dataset_id = %s", desk.dataset)
    odd = [row for row in rows if row["risk_reasons"]]
    assert len(odd) == len(set(answers)) - 1
