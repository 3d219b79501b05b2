"""Each answer that a reviewer rewrote is a preference pair: what counts as one, and that dpo trains on it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from devstack.up import Stack
from shared.datasets.store import build_training_file
from shared.db import Database, http_client
from tests.functions.world import World, make_world
from tests.supabase.reviewers import Connection, Reviewers, refused

TALK = [
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "At noon."},
    {"role": "user", "content": "Every day?"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.fixture
def desk(database: Connection) -> Reviewers:
    return Reviewers(database)


def preferences(desk: Reviewers) -> dict[UUID, tuple[str, str]]:
    """Pair -> (chosen, rejected), as a viewer sees them."""
    with desk.acting("viewer"):
        rows = desk.rows("select * from preferences_from_edits where dataset_id = %s", desk.dataset)
    return {row["pair_id"]: (row["chosen"], row["rejected"]) for row in rows}


def test_the_first_answer_is_rejected_and_the_present_one_chosen(desk: Reviewers) -> None:
    pair, talk = desk.add("At noon."), desk.add(messages=TALK, user_message=None, assistant_message=None)
    desk.edit(pair, assistant="At one.")
    desk.edit(pair, user="When does the bridge open?")
    desk.edit(pair, assistant="At two.")
    desk.edit(talk, assistant="On weekdays.")
    assert preferences(desk) == {pair: ("At two.", "At noon."), talk: ("On weekdays.", "Yes.")}


def test_what_is_no_preference(desk: Reviewers) -> None:
    question, back, undone, rejected, choice, earlier = (desk.add("At noon.") for _ in range(6))
    desk.edit(question, user="When does the bridge open?")
    desk.edit(back, assistant="At one.")
    desk.edit(back, assistant="At noon.")
    desk.edit(undone, assistant="At one.")
    desk.call("undo_review", pair_id=undone)
    desk.edit(rejected, assistant="At one.")
    desk.review("reject", rejected)
    desk.rows(
        "update training_pairs set kind = 'preference', rejected_message = 'no' where id = %s returning id",
        choice,
    )
    desk.edit(choice, assistant="At one.")
    talk = desk.add(messages=TALK, user_message=None, assistant_message=None)
    desk.edit(talk, messages=[*TALK[:1], TALK[1] | {"content": "At one."}, *TALK[2:]])
    assert preferences(desk) == {}
    with refused("no_edits", 422):
        desk.call("make_preference_dataset", dataset_id=desk.dataset, name="none")
    desk.edit(earlier, assistant="At one.")
    assert set(preferences(desk)) == {earlier}


def test_the_dataset_keeps_what_its_pairs_came_from(desk: Reviewers) -> None:
    pair = desk.add("At noon.", split="test", metadata={"page": 3}, source_name="a.csv", source_line=7)
    desk.edit(pair, assistant="At one.")
    made = desk.call("make_preference_dataset", dataset_id=desk.dataset, name=" better ")
    assert (made["name"], made["status"], made["source"], made["pair_count"]) == (
        "better",
        "ready",
        "edits",
        1,
    )
    assert made["source_dataset_id"] == str(desk.dataset)
    (row,) = desk.rows("select * from training_pairs where dataset_id = %s", made["id"])
    assert (row["kind"], row["assistant_message"], row["rejected_message"]) == (
        "preference",
        "At one.",
        "At noon.",
    )
    assert (row["source_pair_id"], row["split"], row["metadata"]) == (pair, "test", {"page": 3})
    assert (row["source_name"], row["source_line"], row["review_status"]) == ("a.csv", 7, "approved")
    desk.review("delete", pair)
    assert desk.one("select count(*) from training_pairs where dataset_id = %s", made["id"]) == 1
    for name in ("", " ", "x" * 121, None):
        with refused("invalid_request", 422):
            desk.call("make_preference_dataset", dataset_id=desk.dataset, name=name)


async def rpc(world: World, function: str, **parameters: Any) -> Any:
    headers = {"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.token}"}
    answer = await world.http.post(
        f"/rest/v1/rpc/{function}", json={f"p_{k}": v for k, v in parameters.items()}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_twenty_edits_are_twenty_rows_that_dpo_trains_on(stack: Stack) -> None:
    async with make_world(stack) as world, http_client() as http:
        dataset = await world.new_dataset(pairs=25)
        pairs = [row[0] for row in world.rows("select id from training_pairs where dataset_id = %s", dataset)]
        for number, pair in enumerate(pairs[:20]):
            changes = {"assistant": f"Ask at gate {number}."}
            await rpc(world, "edit_pair", pair_id=str(pair), changes=changes, expected_revision=0)
        made = await rpc(world, "make_preference_dataset", dataset_id=dataset, name="better answers")
        db = Database(stack.url, api_key=stack.secret_key, bearer=stack.secret_key, http=http)
        file = await build_training_file(db, UUID(made["id"]), "dpo")
        valid = await world.call("validate-dataset", {"datasetId": made["id"]})
        exported = await world.call("export-dataset", {"datasetId": made["id"], "format": "dpo"})
    assert (file.row_count, made["pair_count"]) == (20, 20)
    assert valid.json()["errors"] == [], valid.text
    assert exported.json()["pairCount"] == 20, exported.text
    rows = [json.loads(line) for line in file.content.splitlines()]
    for row in rows:
        assert row["input"]["messages"][0]["role"] == "user"
        assert row["preferred_output"][0]["content"].startswith("Ask at gate ")
        assert row["non_preferred_output"][0]["content"].startswith("Door ")
