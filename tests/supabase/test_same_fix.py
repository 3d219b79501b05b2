"""What one edit replaced, replaced everywhere: what counts as a fix, and which pairs it reaches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.supabase.reviewers import Connection, Reviewers, refused


@pytest.fixture
def desk(database: Connection) -> Reviewers:
    return Reviewers(database)


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("The bridge opens at noon.", "The bridge opens at one.", ["noon", "one"]),
        ("It is 2023 now.", "It is 2024 now.", ["2023", "2024"]),
        ("the cat sat", "the catalog sat", ["cat", "catalog"]),
        ("a catalog", "a dialog", ["catalog", "dialog"]),
        ("Call Bob Smith today.", "Call Ann Jones today.", ["Bob Smith", "Ann Jones"]),
        ("We gladly help.", "We help.", ["gladly ", ""]),
        ("the cat sat", "the cat, sat", None),
        ("the door", "the red door", None),
        ("Grüße aus Köln", "Grüße aus Bonn", ["Köln", "Bonn"]),
        ("a.b.c", "a+b+c", [".b.", "+b+"]),
        ("noon", "one", ["noon", "one"]),
        ("", "one", None),
        ("aaaa", "aa", ["aaaa", "aa"]),
        ("x" * 5000 + " old " + "y" * 5000, "x" * 5000 + " new " + "y" * 5000, ["old", "new"]),
    ],
)
def test_the_fragment_is_what_differs_to_whole_words(
    desk: Reviewers, old: str, new: str, fragment: list[str] | None
) -> None:
    assert desk.one("select private.replaced_fragment(%s, %s)", old, new) == fragment


@pytest.mark.parametrize(
    ("old", "new", "content", "expected"),
    [
        ("At noon.", "At one.", "noon, Noon, afternoon, noon.", "one, Noon, afternoon, one."),
        ("It is 1.5 now.", "It is 2 now.", "1.5 and 125 and 1.5", "2 and 125 and 2"),
        ("cost (net) now", r"cost \1 & \& now", "cost (net)", r"cost \1 & \&"),
        ("Aus Köln.", "Aus Bonn.", "Köln, Kölner", "Bonn, Kölner"),
        ("is [x]* ok", "is y ok", "[x]*[x]", "y[x]"),
        ("says 'it%s' ok", "says this ok", "'it%s' and 'its'", "this and 'its'"),
    ],
)
def test_a_fragment_is_replaced_literally_and_as_whole_words(
    desk: Reviewers, old: str, new: str, content: str, expected: str
) -> None:
    edited, other = desk.add(old), desk.add(content)
    desk.edit(edited, assistant=new)
    answer = desk.call("apply_fix", pair_id=edited, preview=False)
    assert (answer["matched"], answer["changed"]) == (1, 1), answer
    assert desk.pair(other)["assistant_message"] == expected  # type: ignore[index] # it is there


def test_a_fix_is_shown_first_then_applied_then_taken_back(desk: Reviewers) -> None:
    edited = desk.add("The bridge opens at noon.")
    alike = [desk.add("Come at noon, not after noon.", token_count=9) for _ in range(3)]
    talk = desk.add(
        messages=[{"role": "user", "content": "At noon?"}, {"role": "assistant", "content": "Yes, at noon."}],
        user_message=None,
        assistant_message=None,
    )
    apart = desk.add("In the afternoon.")
    question = desk.add("Yes.", user_message="Is it noon?")
    elsewhere = desk.add("At noon.", dataset_id=desk.new_dataset())
    before = desk.state()
    desk.edit(edited, assistant="The bridge opens at one.")

    shown = desk.call("apply_fix", pair_id=edited)
    assert (shown["matched"], shown["changed"], shown["batch_id"]) == (4, 0, None)
    (part,) = shown["fix"]
    assert (part["role"], part["old"], part["new"]) == ("assistant", "noon", "one")
    example = next(item for item in shown["examples"] if item["pair_id"] == str(alike[0]))
    assert example["after"][-1]["content"] == "Come at one, not after one."
    assert len(desk.revisions(alike[0])) == 0

    applied = desk.call("apply_fix", pair_id=edited, preview=False)
    assert (applied["matched"], applied["changed"]) == (4, 4)
    row = desk.pair(alike[2])
    assert row
    assert (row["assistant_message"], row["token_count"]) == ("Come at one, not after one.", None)
    assert [turn["content"] for turn in desk.pair(talk)["messages"]] == ["At noon?", "Yes, at one."]  # type: ignore[index]
    for untouched in (apart, question, elsewhere):
        assert desk.revisions(untouched) == []
    assert desk.call("apply_fix", pair_id=edited, preview=False)["matched"] == 0

    assert desk.call("undo_review", batch_id=applied["batch_id"])["undone"] == 4
    desk.call("undo_review", pair_id=edited)
    assert desk.state() == before
    with refused("no_fix", 422):
        desk.call("apply_fix", pair_id=edited)


@pytest.mark.parametrize(
    "changes", [{"assistant": "The bridge opens at noon, daily."}, {"assistant": "Tho bridge."}]
)
def test_what_no_other_pair_can_have_is_no_fix(desk: Reviewers, changes: dict[str, Any]) -> None:
    pair = desk.add("Th bridge." if "Tho" in changes["assistant"] else "The bridge opens at noon.")
    desk.edit(pair, **changes)
    with refused("no_fix", 422):
        desk.call("apply_fix", pair_id=pair)


def test_a_fix_leaves_no_turn_empty(desk: Reviewers) -> None:
    edited, bare = desk.add("Well, at noon."), desk.add("Well, ")
    desk.edit(edited, assistant="at noon.")
    assert desk.call("apply_fix", pair_id=edited, preview=False)["changed"] == 0
    assert desk.revisions(bare) == []


def test_similar_pairs_share_issues_or_the_fragment(desk: Reviewers) -> None:
    pair = desk.add("It opens at noon.", issues=["name_not_in_source", "too_long"], is_valid=False)
    same = desk.add("Never.", issues=["too_long", "name_not_in_source"], is_valid=False)
    fragment = desk.add("Before noon.")
    both = desk.add("noon", issues=["name_not_in_source", "too_long"], is_valid=False)
    desk.add("Never.", issues=["too_long"], is_valid=False)
    query = "select pair_id, same_issues, same_fragment from public.similar_pairs(%s)"

    def similar(actor: str = "viewer") -> dict[Any, tuple[bool, bool]]:
        with desk.acting(actor):
            rows = desk.rows(query, pair)
        return {row["pair_id"]: (row["same_issues"], row["same_fragment"]) for row in rows}

    assert similar() == {same: (True, False), both: (True, False)}
    desk.edit(pair, assistant="It opens at one.")
    assert similar() == {same: (True, False), both: (True, True), fragment: (False, True)}
    assert similar("stranger") == {}
