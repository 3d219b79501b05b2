"""What keeps two rows from being one job, and two jobs from being one run, whatever the code does."""

from typing import LiteralString

import psycopg
import pytest

Connection = psycopg.Connection[dict[str, object]]
DEMO_USER = "00000000-0000-4000-8000-000000000001"
DEMO_PROJECT = "00000000-0000-4000-8000-000000000003"
_INSERT: LiteralString = (
    "insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key, request_hash,"
    " provider, base_model, method, model_name, provider_job_id)"
    " values (%s, %s, %s, %s, 'h', 'openai', 'gpt', 'full', 'm', %s)"
)


@pytest.fixture
def dataset(database: Connection) -> object:
    row = database.execute(
        "insert into public.training_datasets (project_id, name, status)"
        " values (%s, 'once', 'ready') returning id",
        [DEMO_PROJECT],
    ).fetchone()
    assert row
    return row["id"]


def test_an_idempotency_key_makes_one_row_for_a_user(database: Connection, dataset: object) -> None:
    database.execute(_INSERT, [DEMO_PROJECT, dataset, DEMO_USER, "key", None])
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute(_INSERT, [DEMO_PROJECT, dataset, DEMO_USER, "key", None])


def test_a_run_of_a_provider_belongs_to_one_job(database: Connection, dataset: object) -> None:
    database.execute(_INSERT, [DEMO_PROJECT, dataset, DEMO_USER, "key 1", "ftjob-1"])
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute(_INSERT, [DEMO_PROJECT, dataset, DEMO_USER, "key 2", "ftjob-1"])
