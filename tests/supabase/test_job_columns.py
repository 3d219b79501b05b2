"""A job is made of the columns that the service may set, whatever they are, and of no other."""

from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[dict[str, Any]]
DEMO_USER = "00000000-0000-4000-8000-000000000001"
DEMO_PROJECT = "00000000-0000-4000-8000-000000000003"
_GRANTED: LiteralString = (
    "has_column_privilege('service_role', 'public.training_jobs', column_name, 'insert')"
)


@pytest.fixture
def service(database: Connection) -> Connection:
    """The same connection; what it makes is made by the service."""
    database.execute("set local role service_role")
    return database


def start(database: Connection, **job: Any) -> dict[str, Any]:
    """The row of a new job."""
    dataset = database.execute(
        "insert into public.training_datasets (project_id, name, status)"
        " values (%s, %s, 'ready') returning id",
        [DEMO_PROJECT, uuid4().hex],
    ).fetchone()
    assert dataset
    asked = {
        "dataset_id": str(dataset["id"]), "user_id": DEMO_USER, "idempotency_key": uuid4().hex,
        "request_hash": "h", "provider": "scripted", "base_model": "m", "method": "full", "model_name": "m",
    }  # fmt: skip
    answer = database.execute(
        "select public.create_training_job(%s) as answer", [Jsonb(asked | job)]
    ).fetchone()
    assert answer
    assert answer["answer"]["outcome"] == "created"
    created: dict[str, Any] = answer["answer"]["job"]
    return created


def test_what_is_given_stands_in_the_row(service: Connection) -> None:
    asked = {
        "training_config": {"epochs": 2, "note": None}, "timeout_seconds": 90, "gpu": "L4", "gpu_count": 2,
        "base_revision": "abc",
    }  # fmt: skip
    prices = {
        "estimated_cost_usd": "0.12", "spend_cap_usd": 3, "usd_per_second": "0.000222",
        "usd_per_million_tokens": 5,
    }  # fmt: skip
    job = start(service, **asked, **prices)
    assert {name: job[name] for name in asked} == asked
    assert [float(job[name]) for name in prices] == [0.12, 3, 0.000222, 5]
    assert float(job["reserved_usd"]) == 0.12


def test_what_is_not_given_has_its_default(service: Connection) -> None:
    job = start(service, gpu=None, gpu_count=None, timeout_seconds=None, training_config=None)
    defaults = (job["gpu"], job["gpu_count"], job["timeout_seconds"], job["training_config"], job["status"])
    assert defaults == (None, 1, 21600, {}, "pending")


def test_a_new_column_needs_its_grant_and_no_new_function(database: Connection) -> None:
    database.execute("alter table public.training_jobs add column colour text default 'grey'")
    database.execute("grant insert (colour) on public.training_jobs to service_role")
    database.execute("set local role service_role")
    assert start(database, colour="red")["colour"] == "red"
    assert start(database)["colour"] == "grey"


def test_the_service_sets_nothing_that_a_run_makes(service: Connection) -> None:
    columns = {
        row["column_name"]: row["granted"]
        for row in service.execute(
            f"select column_name, {_GRANTED} as granted from information_schema.columns"
            " where table_schema = 'public' and table_name = 'training_jobs'"
        )
    }
    made = {name for name, granted in columns.items() if not granted}
    assert {"id", "status", "version", "attempt", "provider_job_id", "cost_usd", "model_id", "error"} <= made
    for name in made:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), service.transaction():
            start(service, **{name: "1"})


def test_an_unknown_column_is_an_error(service: Connection) -> None:
    with pytest.raises(psycopg.errors.UndefinedColumn):
        start(service, **{"gpu_count) select 1 --": 1})
