"""A certificate is granted to good datasets, refused to bad ones, and rests on what was drawn alone."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import Figure
from tests.supabase.reviewers import Connection, Reviewers, refused

LIMIT, CONFIDENCE = 0.03, 0.95
ALL, REVIEWS = 1000, 1000
WITH_OTHERS = 1200  # more pairs than the last look would be at


@pytest.fixture
def desk(database: Connection) -> Reviewers:
    return Reviewers(database)


def chance_of_at_most(bad: int, sample: int, all_bad: int, all_pairs: int) -> Fraction:
    """The hypergeometric tail, by counting."""
    ways = sum(math.comb(all_bad, k) * math.comb(all_pairs - all_bad, sample - k) for k in range(bad + 1))
    return Fraction(ways, math.comb(all_pairs, sample))


@pytest.mark.parametrize(
    "case",
    [
        (0, 1, 1, 2),
        (0, 60, 4, 100),
        (3, 100, 40, 700),
        (2, 9, 9, 10),
        (21, 1128, 151, 5000),
        (0, 144, 3001, 10**5),
    ],
)
def test_the_tail_is_exact(desk: Reviewers, case: tuple[int, int, int, int]) -> None:
    found = desk.one("select private.chance_of_at_most(%s, %s, %s, %s)", *case)
    assert found == pytest.approx(float(chance_of_at_most(*case)), rel=1e-8)


# Of a million pairs the bounds are those of Clopper and Pearson (with no bad one 1 - 0.05^(1/n)); where all
# pairs were looked at, nothing is open.
@pytest.mark.parametrize(
    ("bad", "sample", "all_pairs", "expected"),
    [(0, 100, 10**6, 0.0295), (0, 59, 10**6, 0.0495), (1, 100, 10**6, 0.0466), (5, 100, 10**6, 0.1023),
     (3, 100, 100, 0.03), (0, 10, 10, 0.0), (0, 1, 10**6, 0.95)],
)  # fmt: skip
def test_the_bound_is_that_of_the_tables(
    desk: Reviewers, bad: int, sample: int, all_pairs: int, expected: float
) -> None:
    most = desk.one("select private.most_bad(%s, %s, %s, 0.05)", bad, sample, all_pairs)
    assert most / all_pairs == pytest.approx(expected, abs=1e-4)
    if most < all_pairs - sample + bad:
        assert chance_of_at_most(bad, sample, most, all_pairs) > Fraction(1, 20)
        assert chance_of_at_most(bad, sample, most + 1, all_pairs) <= Fraction(1, 20)


@pytest.mark.parametrize("all_pairs", [1, 10, 33, 34, 200, 1000, 12_345, 100_000])
def test_looks_are_planned_so_that_each_errs_a_quarter(desk: Reviewers, all_pairs: int) -> None:
    looks = desk.one("select private.planned_looks(%s, %s, %s)", all_pairs, LIMIT, CONFIDENCE)
    too_many = math.floor(LIMIT * all_pairs + 1e-9) + 1
    error = Fraction(1, 80)
    assert 1 <= len(looks) <= 4
    for look, after in zip(looks, [*looks[1:], None], strict=True):
        pairs, allowed = look["pairs"], look["allowed_bad"]
        assert chance_of_at_most(allowed, pairs, too_many, all_pairs) <= error
        assert allowed + 1 == too_many or chance_of_at_most(allowed + 1, pairs, too_many, all_pairs) > error
        assert after is None or after["pairs"] == min(2 * pairs, all_pairs)
    first = looks[0]["pairs"]
    assert first == all_pairs or chance_of_at_most(0, first - 1, too_many, all_pairs) > error


def test_five_percent_bad_are_refused_and_one_percent_granted(desk: Reviewers, figure: Figure) -> None:
    """Reviewers who make no mistake judge 1,000 pairs, each in another order: the rates of many."""
    looks = desk.one("select private.planned_looks(%s, %s, %s)", ALL, LIMIT, CONFIDENCE)
    rates, reviewed = {}, {}
    for percent in (0.0, 1.0, 3.1, 5.0):
        rng = random.Random(int(percent * 10))
        outcomes = [judged(looks, drawn(rng, ALL, round(ALL * percent / 100))) for _ in range(REVIEWS)]
        rates[percent] = sum(is_granted for is_granted, _ in outcomes) / len(outcomes)
        reviewed[percent] = sum(count for _, count in outcomes) / len(outcomes)
        figure(f"{percent} % bad: granted {rates[percent]:.1%}, {reviewed[percent]:.0f} pairs reviewed")
    assert rates[0.0] == 1.0
    assert rates[1.0] >= 0.99
    assert rates[3.1] <= 1 - CONFIDENCE
    assert rates[5.0] <= 0.01


def drawn(rng: random.Random, all_pairs: int, bad: int) -> list[bool]:
    """Which of the pairs, in the order drawn, are bad."""
    places = set(rng.sample(range(all_pairs), bad))
    return [place in places for place in range(all_pairs)]


def judged(looks: list[dict[str, int]], is_bad: list[bool]) -> tuple[bool, int]:
    """Whether it is granted, and after how many pairs; a look that has failed already is not waited for."""
    bad = place = 0
    for look in looks:
        while place < look["pairs"] and bad <= look["allowed_bad"]:
            bad += is_bad[place]
            place += 1
        if bad <= look["allowed_bad"]:
            return True, place
    return False, place


class Inspection:
    """A dataset with planted bad pairs, and a reviewer who judges what is drawn until it is decided."""

    def __init__(self, desk: Reviewers, pairs: int, bad: int) -> None:
        self.desk = desk
        desk.rows(
            "insert into training_pairs (dataset_id, project_id, ordinal, user_message, assistant_message)"
            " select %s, %s, n, 'What opens door ' || n, case when n <= %s then 'bad ' else 'good ' end || n"
            " from generate_series(1, %s) n returning id",
            desk.dataset, desk.project, bad, pairs,
        )  # fmt: skip
        self.bad = {
            row["id"]
            for row in desk.rows(
                "select id from training_pairs where dataset_id = %s and assistant_message like 'bad%%'",
                desk.dataset,
            )
        }

    def ask(self, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.desk.call("issue_certificate", dataset_id=self.desk.dataset, **more)
        return answer

    def judge_next(self, answer: dict[str, Any]) -> None:
        due = {UUID(pair) for pair in answer["next_pair_ids"]}
        for action, pairs in (("reject", due & self.bad), ("approve", due - self.bad)):
            if pairs:
                self.desk.review(action, *pairs)

    def not_drawn(self, answer: dict[str, Any]) -> list[UUID]:
        rows = self.desk.rows(
            "select id from training_pairs where dataset_id = %s and id not in"
            " (select pair_id from review_sample_pairs where sample_id = %s)",
            self.desk.dataset,
            answer["sample_id"],
        )
        assert rows
        return [row["id"] for row in rows]

    def decided(self) -> dict[str, Any]:
        answer = self.ask()
        while answer["state"] == "open":
            assert answer["to_review"] >= len(answer["next_pair_ids"]) > 0
            self.judge_next(answer)
            answer = self.ask()
        return answer


@pytest.mark.parametrize(("bad", "state"), [(50, "refused"), (10, "granted"), (0, "granted")])
def test_reviewers_in_the_database_come_to_the_same(desk: Reviewers, bad: int, state: str) -> None:
    inspection = Inspection(desk, ALL, bad)
    answer = inspection.decided()
    assert answer["state"] == state, answer
    assert answer["pairs"] == ALL
    assert desk.call("certificate_standing", "viewer", dataset_id=desk.dataset)["state"] == state
    if state == "granted":
        assert answer["bad_share_bound"] <= LIMIT
        assert (answer["reviewed"], answer["certified_at"] is not None) == (answer["look"]["pairs"], True)
        assert answer["bad"] <= answer["look"]["allowed_bad"]
    else:
        assert (answer["to_review"], answer["next_pair_ids"]) == (0, [])


def test_a_refusal_says_how_many_are_still_to_be_reviewed(desk: Reviewers) -> None:
    inspection = Inspection(desk, 200, 0)
    first = inspection.ask()
    assert (first["state"], first["to_review"], first["reviewed"], len(first["next_pair_ids"])) == (
        "open",
        92,
        0,
        50,
    )
    assert first["bad_share_bound"] == 1.0
    inspection.judge_next(first)
    second = inspection.ask()
    assert (second["sample_id"], second["to_review"], second["reviewed"]) == (first["sample_id"], 42, 50)
    desk.review("reject", UUID(second["next_pair_ids"][0]))
    third = inspection.ask()
    assert (third["look"]["pairs"], third["bad"], third["to_review"]) == (184, 1, 133), "the next look"


def test_only_what_was_drawn_and_looked_at_counts(desk: Reviewers) -> None:
    inspection = Inspection(desk, WITH_OTHERS, 0)
    answer = inspection.ask()
    desk.review("approve", *inspection.not_drawn(answer))
    assert inspection.ask()["reviewed"] == 0, "cherries"
    desk.review("approve", filter={})
    assert inspection.ask()["reviewed"] == 0, "approved unseen"
    desk.review("approve", UUID(answer["next_pair_ids"][0]))
    assert inspection.ask()["reviewed"] == 1, "though it was approved already"


def test_a_pair_that_had_to_be_mended_was_a_bad_one(desk: Reviewers) -> None:
    inspection = Inspection(desk, 400, 0)
    edited, deleted, rejected, undone = (UUID(pair) for pair in inspection.ask()["next_pair_ids"][:4])
    desk.edit(edited, assistant="Better.")
    desk.review("approve", edited)
    desk.review("delete", deleted)
    desk.review("restore", deleted)
    desk.review("approve", deleted)
    desk.review("rate", rejected, rating=1)
    desk.review("reject", filter={"min_rating": 1})
    answer = inspection.ask()
    assert (answer["bad"], answer["reviewed"]) == (3, 3)
    step = desk.review("reject", undone)
    assert inspection.ask()["bad"] == 4
    desk.call("undo_review", batch_id=step["batch_id"])
    assert inspection.ask() == answer, "a slip that was taken back is none"


@pytest.mark.parametrize("step", ["edit", "reject", "delete", "add"])
def test_a_certificate_is_of_these_pairs_and_no_others(desk: Reviewers, step: str) -> None:
    inspection = Inspection(desk, 40, 0)
    granted = inspection.decided()
    assert granted["state"] == "granted"
    desk.review("rate", filter={}, rating=5)
    desk.review("reset", filter={})
    assert inspection.ask()["certified_at"] == granted["certified_at"], "the pairs are the same"
    pair = next(iter(desk.state()))
    if step == "edit":
        desk.edit(pair, assistant="Another.")
    elif step == "add":
        desk.add("Added later.")
    else:
        desk.review(step, pair)
    assert inspection.ask()["state"] == "stale"
    assert desk.call("certificate_standing", "viewer", dataset_id=desk.dataset)["state"] == "stale"
    again = inspection.ask(draw_again=True)
    assert (again["state"], again["draws"]) == ("open", 2)
    assert again["pairs"] == {"edit": 40, "add": 41}.get(step, 39)


def test_an_open_sample_is_never_drawn_anew_for_luck(desk: Reviewers) -> None:
    inspection = Inspection(desk, WITH_OTHERS, 0)
    answer = inspection.ask()
    assert inspection.ask(draw_again=True)["sample_id"] == answer["sample_id"]
    inspection.judge_next(answer)
    other = inspection.not_drawn(answer)[0]
    desk.edit(other, assistant="Another.")
    assert inspection.ask()["state"] == "stale"
    desk.call("undo_review", pair_id=other)
    assert (inspection.ask()["state"], inspection.ask()["reviewed"]) == ("open", 50)
    desk.edit(other, assistant="Another.")
    assert inspection.ask(draw_again=True)["sample_id"] != answer["sample_id"]


def test_what_cannot_be_certified(desk: Reviewers) -> None:
    with refused("no_pairs", 422):
        desk.call("issue_certificate", dataset_id=desk.dataset)
    desk.add()
    for numbers in (
        {"max_bad_share": 0.0},
        {"max_bad_share": 0.9},
        {"confidence": 1.0},
        {"confidence": None},
    ):
        with refused("invalid_request", 422):
            desk.call("issue_certificate", dataset_id=desk.dataset, **numbers)
    assert desk.call("certificate_standing", dataset_id=desk.dataset) is None
