"""A batch of generation that waits is in nobody's hand, and its members see why."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[dict[str, Any]]
DEMO_USER = "00000000-0000-4000-8000-000000000001"
DEMO_PROJECT = "00000000-0000-4000-8000-000000000003"
BUSY = {"code": "model_busy", "message": "It takes less (429)."}


@pytest.fixture
def dataset(database: Connection) -> str:
    """One that is generating, of one chunk. All that follows is done by the service."""
    path = f"{DEMO_PROJECT}/{uuid4()}"
    one = database.execute(
        "with document as (insert into public.documents"
        "   (project_id, name, mime_type, byte_size, storage_path, status)"
        "   values (%(project)s, 'x', 'text/plain', 1, %(path)s, 'ready') returning id),"
        " chunk as (insert into public.chunks"
        "   (document_id, project_id, ordinal, content, char_start, char_end, token_count, content_hash,"
        "   quality_score)"
        "   select id, %(project)s, 1, 'x', 0, 1, 1, 'h', 1 from document returning id),"
        " dataset as (insert into public.training_datasets (project_id, name, generation)"
        "   values (%(project)s, %(path)s, '{}') returning id),"
        " work as (insert into public.dataset_chunks (dataset_id, chunk_id, project_id, ordinal)"
        "   select d.id, c.id, %(project)s, 1 from dataset d, chunk c)"
        " select id from dataset",
        {"project": DEMO_PROJECT, "path": path},
    ).fetchone()
    assert one
    database.execute("update public.training_datasets set status = 'generating' where id = %s", [one["id"]])
    database.execute("set local role service_role")
    return str(one["id"])


def claim(database: Connection, dataset: str) -> dict[str, Any] | None:
    row = database.execute(
        "select public.claim_generation_batch(%s, 10, 300) as claimed", [dataset]
    ).fetchone()
    assert row
    claimed: dict[str, Any] | None = row["claimed"]
    return claimed


def save(database: Connection, batch: dict[str, Any], **changes: Any) -> bool:
    row = database.execute(
        "select public.save_generation_batch(%s, %s, %s, true) as is_saved",
        [batch["id"], batch["lease_token"], Jsonb(changes)],
    ).fetchone()
    assert row
    return bool(row["is_saved"])


def claimed_batch(database: Connection, dataset: str) -> dict[str, Any]:
    claimed = claim(database, dataset)
    assert claimed
    batch: dict[str, Any] = claimed["batch"]
    return batch


def test_what_waits_is_not_claimed_until_its_time_or_an_unknown_stop(
    database: Connection, dataset: str
) -> None:
    assert save(database, claimed_batch(database, dataset), last_error=BUSY, wait_seconds=900)
    assert claim(database, dataset) is None
    database.execute("select public.stop_generation(%s)", [dataset])
    batch = claimed_batch(database, dataset)
    assert (batch["is_stop_known"], batch["last_error"]) == (True, BUSY)
    # A stop of which its owner learned only afterwards is not lost either.
    assert save(database, batch, last_error=BUSY, wait_seconds=900)
    assert claim(database, dataset) is None
    database.execute("update public.generation_batches set next_look_at = now() where id = %s", [batch["id"]])
    assert claim(database, dataset)


def test_a_stop_while_it_is_looked_at_ends_the_wait_that_follows(database: Connection, dataset: str) -> None:
    batch = claimed_batch(database, dataset)
    database.execute("select public.stop_generation(%s)", [dataset])
    assert save(database, batch, last_error=BUSY, wait_seconds=900)
    assert claimed_batch(database, dataset)["is_stop_known"]


def test_members_see_why_it_waits_and_that_it_goes_on(database: Connection, dataset: str) -> None:
    first = claimed_batch(database, dataset)
    assert save(database, first, last_error=BUSY, wait_seconds=0)
    assert not save(database, first, last_error=None), "its lease was given back"
    assert seen_by_member(database, dataset) == (BUSY, True, "Its batch waits: It takes less (429).")
    assert save(database, claimed_batch(database, dataset), status="submitted", last_error=None)
    assert seen_by_member(database, dataset) == (None, False, None)


def seen_by_member(database: Connection, dataset: str) -> tuple[Any, ...]:
    """Why the batch waits, whether it does, and what the dataset says."""
    database.execute("select set_config('request.jwt.claims', %s, true)", [f'{{"sub": "{DEMO_USER}"}}'])
    database.execute("set local role authenticated")
    row = database.execute(
        "select b.last_error, b.waiting_since is not null as waits, d.warning ->> 'message' as warning"
        " from public.generation_batches b join public.training_datasets d on d.id = b.dataset_id"
        " where d.id = %s",
        [dataset],
    ).fetchone()
    database.execute("set local role service_role")
    assert row
    return tuple(row.values())
