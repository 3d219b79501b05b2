"""Pairs edited, approved, rejected, marked, rated, deleted, restored, and all of it taken back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from devstack.up import Stack
from tests.supabase.reviewers import ACTORS, Connection, Reviewers, refused

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "At noon."},
    {"role": "user", "content": "Every day?"},
    {"role": "assistant", "content": "On weekdays."},
]


@pytest.fixture
def desk(database: Connection) -> Reviewers:
    return Reviewers(database)


@pytest.mark.parametrize("actor", ACTORS)
def test_editors_review_and_nobody_else(desk: Reviewers, actor: str) -> None:
    pair = desk.add()
    steps: list[tuple[str, dict[str, Any]]] = [
        ("edit_pair", {"pair_id": pair, "changes": {"assistant": "At one."}}),
        ("review_pairs", {"dataset_id": desk.dataset, "action": "approve", "pair_ids": [pair]}),
        ("undo_review", {"pair_id": pair}),
        ("apply_fix", {"pair_id": pair}),
        ("issue_certificate", {"dataset_id": desk.dataset}),
        ("make_preference_dataset", {"dataset_id": desk.dataset, "name": "better"}),
    ]
    for function, parameters in steps:
        if actor in ("owner", "editor"):
            assert desk.call(function, actor, **parameters)
        elif actor == "stranger":
            code = "pair_not_found" if "pair_id" in parameters else "dataset_not_found"
            with refused(code, 404):
                desk.call(function, actor, **parameters)
        elif actor == "viewer":
            with refused("forbidden", 403):
                desk.call(function, actor, **parameters)
        else:
            with refused("42501"):
                desk.call(function, actor, **parameters)
    if actor not in ("owner", "editor"):
        assert desk.revisions(pair) == []


@pytest.mark.parametrize("actor", ACTORS)
def test_members_read_what_was_done(desk: Reviewers, actor: str) -> None:
    pair = desk.add()
    desk.edit(pair, assistant="At one.")
    desk.call("issue_certificate", dataset_id=desk.dataset)
    sources = (
        "pair_revisions",
        "preferences_from_edits",
        "pairs_to_review",
        "review_samples",
        "review_sample_pairs",
    )
    for source in sources:
        query = f"select count(*) from public.{source} where project_id = %s"
        if actor == "anonymous":
            with refused("42501"), desk.acting(actor):
                desk.one(query, desk.project)
            continue
        with desk.acting(actor):
            assert desk.one(query, desk.project) == (0 if actor == "stranger" else 1), source
    if actor not in ("anonymous", "service"):
        with desk.acting(actor):
            page = desk.rows("select * from public.riskiest_pairs(%s)", desk.dataset)
        assert len(page) == (0 if actor == "stranger" else 1)
        standing = desk.call("certificate_standing", actor, dataset_id=desk.dataset)
        assert (standing is None) == (actor == "stranger")


def test_an_edit_is_one_revision_and_forgets_what_it_made_unknown(desk: Reviewers) -> None:
    pair = desk.add(
        token_count=12, quality_score=0.5, grounding_score=0.2, is_valid=False, issues=["not_grounded"]
    )
    answer = desk.edit(pair, assistant="It opens at one.", system="Be brief.")
    row = desk.pair(pair)
    assert row
    assert (row["assistant_message"], row["system_message"]) == ("It opens at one.", "Be brief.")
    assert (row["token_count"], row["quality_score"], row["grounding_score"]) == (None, None, None)
    assert (row["is_valid"], row["issues"], row["revision"]) == (True, [], 1)
    assert (answer["changed"], answer["pair"]["assistant_message"]) == (1, "It opens at one.")
    (revision,) = desk.revisions(pair)
    assert (revision["action"], revision["changed_by"]) == ("edit", desk.users["editor"])
    assert revision["before"]["assistant_message"] == "The bridge opens at noon."
    assert str(revision["batch_id"]) == answer["batch_id"]
    assert desk.edit(pair, assistant="It opens at one.")["changed"] == 0
    assert len(desk.revisions(pair)) == 1


def test_an_issue_goes_with_what_it_was_about(desk: Reviewers) -> None:
    pair = desk.add(is_valid=False, issues=["duplicate_question", "not_grounded"], grounding_score=0.2)
    desk.edit(pair, user="When does the bridge open?")
    row = desk.pair(pair)
    assert row
    assert (row["issues"], row["is_valid"]) == (["not_grounded"], False)
    assert row["grounding_score"] == pytest.approx(0.2), "its answer is the same"
    desk.edit(pair, assistant="At one.")
    row = desk.pair(pair)
    assert row
    assert (row["issues"], row["is_valid"], row["grounding_score"]) == ([], True, None)


def test_conversations_and_preferences_are_edited_in_their_own_shape(desk: Reviewers) -> None:
    talk = desk.add(messages=TURNS, user_message=None, assistant_message=None)
    desk.edit(talk, assistant="On Sundays too.")
    row = desk.pair(talk)
    assert row
    assert [turn["content"] for turn in row["messages"]][-2:] == ["Every day?", "On Sundays too."]
    shorter = TURNS[:3]
    desk.edit(talk, messages=shorter)
    assert desk.pair(talk)["messages"] == shorter  # type: ignore[index] # it is there
    with refused("invalid_change", 422):
        desk.edit(talk, user="Which of the two?")
    choice = desk.add(kind="preference", rejected_message="Never.")
    desk.edit(choice, rejected="I do not know.")
    assert desk.pair(choice)["rejected_message"] == "I do not know."  # type: ignore[index] # it is there


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "invalid_change"),
        ([], "invalid_change"),
        ({"assistant": " \n"}, "invalid_change"),
        ({"assistant": None}, "invalid_change"),
        ({"assistant": 7}, "invalid_change"),
        ({"user": "x" * 100_001}, "text_too_long"),
        ({"review_status": "approved"}, "invalid_change"),
        ({"quality_score": 1}, "invalid_change"),
        ({"rejected": "Never."}, "invalid_change"),
        ({"messages": TURNS}, "invalid_change"),
    ],
)
def test_hostile_changes_are_refused(desk: Reviewers, changes: Any, code: str) -> None:
    pair = desk.add()
    with refused(code, 422):
        desk.call("edit_pair", pair_id=pair, changes=changes)
    assert desk.revisions(pair) == []


@pytest.mark.parametrize(
    "messages",
    [
        "text", [], [TURNS[1]], TURNS[:2], [*TURNS, "text"], [None, TURNS[2]],
        [{"role": "user"}, TURNS[2]], [{"role": "root", "content": "x"}, TURNS[2]],
        [{"role": "user", "content": "x", "color": 1}, TURNS[2]], [TURNS[1], TURNS[2] | {"content": ""}],
    ],
)  # fmt: skip
def test_hostile_conversations_are_refused(desk: Reviewers, messages: Any) -> None:
    pair = desk.add(messages=TURNS, user_message=None, assistant_message=None)
    with refused("invalid_change", 422):
        desk.edit(pair, messages=messages)


def test_who_read_an_older_pair_does_not_write_over_a_newer_one(desk: Reviewers) -> None:
    pair = desk.add()
    desk.edit(pair, revision=0, assistant="At one.")
    with refused("pair_changed", 409):
        desk.edit(pair, "owner", revision=0, assistant="At two.")
    desk.edit(pair, "owner", revision=1, assistant="At two.")
    desk.review("delete", pair)
    with refused("pair_deleted", 409):
        desk.edit(pair, assistant="At three.")
    with refused("pair_not_found", 404):
        desk.edit(uuid4(), assistant="At three.")


def test_reviewers_at_the_same_time_wait_for_each_other(stack: Stack, database: Connection) -> None:
    """The second read the pair before the first had written it: refused, not silently written over."""
    with psycopg.connect(stack.database_url, row_factory=dict_row, autocommit=True) as outside:
        desk = Reviewers(outside)
        pair = desk.add()
        try:
            with (
                psycopg.connect(stack.database_url, row_factory=dict_row) as first,
                psycopg.connect(stack.database_url, row_factory=dict_row) as second,
                ThreadPoolExecutor(1) as pool,
            ):
                first.execute("select 1")  # a transaction, which ends with its commit below
                desk.seen_by(first).edit(pair, revision=0, assistant="At one.")
                waiting = pool.submit(
                    desk.seen_by(second).edit, pair, "owner", revision=0, assistant="At two."
                )
                blocked = "select %s = any(pg_blocking_pids(%s)) as so"
                pids = [first.info.backend_pid, second.info.backend_pid]
                while not waiting.done() and database.execute(blocked, pids).fetchone() == {"so": False}:
                    pass
                assert not waiting.done()
                first.commit()
                with refused("pair_changed", 409):
                    waiting.result()
            assert desk.pair(pair)["assistant_message"] == "At one."  # type: ignore[index] # it is there
        finally:
            outside.execute("delete from auth.users where id = any(%s)", [list(desk.users.values())])


@pytest.mark.parametrize("status", ["generating", "training", "archived"])
def test_pairs_stay_as_they_are_while_they_are_used(desk: Reviewers, status: str) -> None:
    pair = desk.add()
    desk.edit(pair, assistant="At one.")
    desk.rows("update training_datasets set status = %s where id = %s returning id", status, desk.dataset)
    with refused(f"dataset_is_{status}", 409):
        desk.edit(pair, assistant="At two.")
    with refused(f"dataset_is_{status}", 409):
        desk.review("reject", pair)
    with refused(f"dataset_is_{status}", 409):
        desk.call("undo_review", pair_id=pair)
    for open_again in ("draft", "ready", "failed"):
        desk.rows(
            "update training_datasets set status = %s where id = %s returning id", open_again, desk.dataset
        )
        assert desk.review("rate", pair, rating=3)["matched"] == 1


def test_bulk_by_ids_changes_these_and_says_how_many(desk: Reviewers) -> None:
    first, second, other = desk.add(), desk.add(), desk.add()
    desk.review("approve", first)
    answer = desk.review("approve", first, second, uuid4())
    assert (answer["matched"], answer["changed"], answer["remaining"]) == (2, 1, 0)
    assert desk.review("approve", first, second)["batch_id"] is None
    desk.review("gold_star", first)
    desk.review("rate", first, second, rating=5)
    row = desk.pair(first)
    assert row
    assert (row["review_status"], row["is_gold_star"], row["rating"]) == ("approved", True, 5)
    desk.review("no_gold_star", first)
    desk.review("rate", first)
    desk.review("reset", first)
    row = desk.pair(first)
    assert row
    assert (row["review_status"], row["is_gold_star"], row["rating"]) == ("pending", False, None)
    assert desk.pair(other)["revision"] == 0  # type: ignore[index] # it is there


def test_a_large_step_is_done_in_several_calls(desk: Reviewers) -> None:
    desk.rows(
        "insert into training_pairs (dataset_id, project_id, ordinal, user_message, assistant_message)"
        " select %s, %s, n, 'q', 'a' from generate_series(1, 5003) n returning id",
        desk.dataset,
        desk.project,
    )
    calls = [desk.review("approve", filter={}) for _ in range(3)]
    assert [call["changed"] for call in calls] == [5000, 3, 0]
    assert [call["remaining"] for call in calls] == [3, 0, 0]


def test_ids_of_another_dataset_are_left_alone(desk: Reviewers) -> None:
    elsewhere = desk.add(dataset_id=desk.new_dataset())
    assert desk.review("delete", elsewhere)["matched"] == 0
    assert desk.pair(elsewhere)


DOCUMENT = uuid4()
FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"plain", "talk", "poor", "starred"}),
    ({"review_status": "approved"}, {"starred"}),
    ({"is_valid": False}, {"poor"}),
    ({"issue": "too_long"}, {"poor"}),
    ({"max_quality": 0.3}, {"poor"}),
    ({"min_quality": 0.3}, {"starred"}),
    ({"min_rating": 4}, {"starred"}),
    ({"is_gold_star": True}, {"starred"}),
    ({"split": "test"}, {"plain"}),
    ({"kind": "sft"}, {"plain", "talk", "poor", "starred"}),
    ({"search": "WEEKdays"}, {"talk"}),
    ({"search": 'the "old" bridge'}, {"plain"}),
    ({"search": "100%"}, set()),
    ({"document_id": str(DOCUMENT)}, {"plain"}),
    ({"is_valid": True, "review_status": "pending", "search": "noon"}, {"talk"}),
]


@pytest.mark.parametrize(("condition", "expected"), FILTERS)
def test_bulk_by_filter(desk: Reviewers, condition: dict[str, Any], expected: set[str]) -> None:
    document = desk.new_document(DOCUMENT)
    pairs = {
        "plain": desk.add('See the "old" bridge.', split="test", document_id=document),
        "talk": desk.add(messages=TURNS, user_message=None, assistant_message=None),
        "poor": desk.add(quality_score=0.1, is_valid=False, issues=["too_long"]),
        "starred": desk.add("Yes.", quality_score=0.9, rating=5, is_gold_star=True, review_status="approved"),
    }
    answer = desk.review("delete", filter=condition)
    gone = {name for name, pair in pairs.items() if desk.pair(pair) is None}
    assert gone == expected
    assert (answer["matched"], answer["changed"]) == (len(expected), len(expected))


@pytest.mark.parametrize(
    "more",
    [
        {}, {"filter": {}, "pair_ids": []}, {"filter": {"reviewstatus": "pending"}}, {"filter": []},
        {"filter": "all"}, {"filter": None},
    ],
)  # fmt: skip
def test_a_misspelt_condition_changes_nothing(desk: Reviewers, more: dict[str, Any]) -> None:
    pair = desk.add()
    with refused("invalid_filter" if more.get("filter", {}) != {} else "invalid_request", 422):
        desk.review("delete", **more)
    assert desk.pair(pair)


@pytest.mark.parametrize(
    ("action", "rating", "code"),
    [("rate", 6, "invalid_rating"), ("rate", 0, "invalid_rating"), ("publish", None, "invalid_action")],
)
def test_hostile_actions_are_refused(desk: Reviewers, action: str, rating: int | None, code: str) -> None:
    with refused(code, 422):
        desk.review(action, desk.add(), rating=rating)


def test_the_dataset_counts_its_pairs_and_forgets_what_was_said_of_others(desk: Reviewers) -> None:
    pairs = [desk.add(quality_score=0.5, token_count=10) for _ in range(3)]
    desk.rows(
        "update training_datasets set pair_count = 3, validation = '{}', content_hash = 'h',"
        " stats = '{\"own\": 1}' where id = %s returning id",
        desk.dataset,
    )
    desk.review("approve", *pairs)
    row = desk.rows("select * from training_datasets where id = %s", desk.dataset)[0]
    assert (row["validation"], row["content_hash"]) == ({}, "h"), "no pair changed"
    desk.review("delete", pairs[0])
    desk.edit(pairs[1], assistant="At one.")
    row = desk.rows("select * from training_datasets where id = %s", desk.dataset)[0]
    assert (row["pair_count"], row["validation"], row["content_hash"]) == (2, None, None)
    assert row["stats"] == {
        "own": 1, "total_pairs": 2, "valid_pairs": 2, "avg_quality_score": 0.5, "total_tokens": 10,
        "avg_tokens_per_pair": 10,
    }  # fmt: skip


def test_undo_takes_back_one_call_and_leaves_what_came_after(desk: Reviewers) -> None:
    first, second = desk.add(), desk.add()
    batch = desk.review("reject", first, second)["batch_id"]
    desk.review("approve", second)
    answer = desk.call("undo_review", batch_id=batch)
    assert (answer["undone"], answer["skipped"]) == (1, 1)
    assert [desk.pair(pair)["review_status"] for pair in (first, second)] == ["pending", "approved"]  # type: ignore[index]
    with refused("nothing_to_undo", 409):
        desk.call("undo_review", batch_id=batch)
    desk.call("undo_review", pair_id=second)
    assert desk.call("undo_review", batch_id=batch)["undone"] == 1
    assert desk.pair(second)["review_status"] == "pending"  # type: ignore[index] # it is there
    with refused("nothing_to_undo", 409):
        desk.call("undo_review", pair_id=second)
    with refused("pair_not_found", 404):
        desk.call("undo_review", batch_id=uuid4())


def test_a_deleted_pair_comes_back_as_it_was(desk: Reviewers) -> None:
    kept = {"rating": 4, "metadata": {"a": 1}, "quality_score": 0.3, "source_name": "a.csv", "source_line": 3}
    pair, other = desk.add(**kept), desk.add(messages=TURNS, user_message=None, assistant_message=None)
    before = desk.state()
    desk.review("delete", filter={})
    assert desk.state() == {}
    assert desk.review("restore", pair)["changed"] == 1
    assert desk.review("restore", filter={})["changed"] == 1
    assert desk.state() == before
    assert desk.review("restore", filter={})["changed"] == 0
    desk.call("undo_review", pair_id=other)
    assert set(desk.state()) == {pair}
    desk.call("undo_review", pair_id=other)
    assert desk.state() == before
    with refused("invalid_request", 422):
        desk.review("restore", filter={"is_valid": True})


def test_a_place_that_was_taken_meanwhile_stays_taken(desk: Reviewers) -> None:
    document = desk.new_document()
    chunk = desk.one(
        "insert into chunks (document_id, project_id, ordinal, content, content_hash, char_start, char_end,"
        " token_count, quality_score) values (%s, %s, 0, 'x', 'h', 0, 1, 1, 1) returning id",
        document,
        desk.project,
    )
    pair = desk.add(chunk_id=chunk, ordinal=1)
    desk.review("delete", pair)
    newer = desk.add(chunk_id=chunk, ordinal=1)
    assert desk.review("restore", pair)["changed"] == 0
    desk.review("delete", newer)
    desk.rows("delete from documents where id = %s returning id", document)
    assert desk.review("restore", pair)["changed"] == 1
    row = desk.pair(pair)
    assert row
    assert (row["chunk_id"], row["document_id"]) == (None, document)


ACTIONS = st.one_of(
    st.tuples(st.just("edit"), st.integers(0, 3), st.sampled_from(["At one.", "At two.", "Never 7."])),
    st.tuples(
        st.sampled_from(["approve", "reject", "reset", "gold_star", "no_gold_star", "delete", "restore"]),
        st.sets(st.integers(0, 3), min_size=1),
        st.none(),
    ),
    st.tuples(st.just("rate"), st.sets(st.integers(0, 3), min_size=1), st.integers(1, 5)),
    st.tuples(st.just("delete by filter"), st.just(0), st.sampled_from(["one", "bridge", "weekdays"])),
    st.tuples(st.just("fix"), st.integers(0, 3), st.none()),
    st.tuples(st.just("undo"), st.integers(0, 3), st.none()),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example is rolled back
)
@given(steps=st.lists(ACTIONS, min_size=1, max_size=12))
def test_undoing_all_leads_back_to_the_first_state(database: Connection, steps: list[Any]) -> None:
    with database.transaction(force_rollback=True):
        desk = Reviewers(database)
        pairs = [
            desk.add(token_count=9, grounding_score=0.7, issues=["too_long"], is_valid=False),
            desk.add("The bridge opens at one."),
            desk.add(messages=TURNS, user_message=None, assistant_message=None, rating=2),
            desk.add(kind="preference", rejected_message="Never.", review_status="approved"),
        ]
        first = desk.state()
        for step in steps:
            act(desk, pairs, *step)
        for pair in pairs:
            while undo(desk, pair):
                pass
        assert desk.state() == first
        for pair in pairs:
            numbers = [revision["revision"] for revision in desk.revisions(pair)]
            assert numbers == list(range(1, len(numbers) + 1))
            assert desk.pair(pair)["revision"] == len(numbers)  # type: ignore[index] # it is there


def act(desk: Reviewers, pairs: list[UUID], action: str, which: Any, value: Any) -> None:
    """One step of a reviewer; one that is refused changes nothing."""
    if action == "edit":
        if desk.pair(pairs[which]):
            desk.edit(pairs[which], assistant=value)
    elif action == "delete by filter":
        desk.review("delete", filter={"search": value})
    elif action == "fix":
        quietly(desk, "apply_fix", pair_id=pairs[which], preview=False)
    elif action == "undo":
        undo(desk, pairs[which])
    else:
        desk.review(action, *(pairs[place] for place in which), rating=value)


def undo(desk: Reviewers, pair: UUID) -> bool:
    return quietly(desk, "undo_review", pair_id=pair)


def quietly(desk: Reviewers, function: str, **parameters: Any) -> bool:
    """Whether the call was answered and not refused."""
    try:
        desk.call(function, **parameters)
    except psycopg.DatabaseError as error:
        if error.sqlstate != "PGRST":
            raise
        return False
    return True
