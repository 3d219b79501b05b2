"""What is kept of a completed run, and what later estimates are told of it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[dict[str, Any]]
EXPECTED = {
    "gpu": "L40S", "size_class": 32, "seconds": 100.0, "memory_bytes": 10_000, "ends_in_seconds": 300.0,
}  # fmt: skip
WALK = ("uploading", "validating", "queued", "training", "completed")


def one(database: Connection, sql: str, *parameters: object) -> Any:
    row = database.execute(sql, parameters).fetchone()  # type: ignore[arg-type]  # written here, not by a user
    assert row is not None
    return next(iter(row.values()))


@pytest.fixture
def project(database: Connection) -> str:
    return new_project(database)


def new_project(database: Connection) -> str:
    user = uuid4()
    database.execute("insert into auth.users (id, email) values (%s, %s)", [user, f"{user}@test.local"])
    return str(one(database, "insert into projects (owner_id, name) values (%s, 'p') returning id", user))


def run(
    database: Connection, project: str, *, result: dict[str, Any], memory: int | None = 12_000, **job: Any
) -> dict[str, Any] | None:
    """A job that was expected to take 100 seconds and is completed with what its trainer says."""
    dataset = one(
        database,
        "insert into training_datasets (project_id, name, status) values (%s, 'd', 'ready') returning id",
        project,
    )
    job_id = one(
        database,
        "insert into training_jobs (project_id, dataset_id, user_id, idempotency_key, request_hash, provider,"
        " base_model, method, model_name, attempt)"
        " select p.id, %s, p.owner_id, gen_random_uuid(), 'h', 'modal', 'x/4B', 'lora', 'm', %s"
        " from projects p where id = %s returning id",
        dataset, job.get("attempt", 1), project,
    )  # fmt: skip
    assert one(database, "select expect_training_job(%s, %s)", job_id, Jsonb(EXPECTED)) is True
    assert one(database, "select expect_training_job(%s, %s)", job_id, Jsonb(EXPECTED)) is False
    assert one(database, "select eta_at - now() from training_jobs where id = %s", job_id).seconds == 300
    database.execute(
        "update private.training_job_control set trainer_result = %s,"
        " claimed_at = now() - %s * interval '1 second' where job_id = %s",
        [Jsonb(result), job.get("claimed_seconds_ago", 150), job_id],
    )
    for status in WALK:
        memory_now = memory if status == "training" else None
        database.execute(
            "update training_jobs set status = %s, gpu_memory_bytes = coalesce(%s, gpu_memory_bytes)"
            " where id = %s",
            [status, memory_now, job_id],
        )
    return database.execute("select * from estimate_calibrations where job_id = %s", [job_id]).fetchone()


def told(database: Connection, project: str) -> list[dict[str, Any]]:
    """What past_estimates says of these runs."""
    groups = one(database, "select past_estimates(%s)", project)
    mine = [group for group in groups if (group["provider"], group["gpu"]) == ("modal", "L40S")]
    return mine[0]["runs"] if mine else []


def test_a_completed_run_is_compared_with_what_was_expected(database: Connection, project: str) -> None:
    row = run(database, project, result={"duration_seconds": 130})
    assert row is not None
    assert (row["duration_ratio"], row["memory_ratio"]) == (1.3, 1.2)
    assert told(database, project) == [{"duration_ratio": 1.3, "memory_ratio": 1.2}]


@pytest.mark.parametrize(
    ("how", "duration", "memory"),
    [
        ({"result": {}}, None, 1.2),
        ({"result": {"duration_seconds": 130, "metrics": {"stopped_early": True}}}, None, 1.2),
        ({"result": {"duration_seconds": 130, "metrics": {"stopped_early": "banana"}}}, 1.3, 1.2),
        ({"result": {"duration_seconds": 1e300}}, None, 1.2),
        ({"result": {"duration_seconds": 1e-300}}, None, 1.2),
        ({"result": {"duration_seconds": 130}, "memory": 0}, 1.3, None),
    ],
)
def test_what_says_nothing_of_the_formulas_is_not_compared(
    database: Connection, project: str, how: dict[str, Any], duration: float | None, memory: float | None
) -> None:
    row = run(database, project, **{"claimed_seconds_ago": 1, **how})
    assert row is not None
    assert (row["duration_ratio"], row["memory_ratio"]) == (duration, memory)


@pytest.mark.parametrize("how", [{"attempt": 2}, {"claimed_seconds_ago": 3_600}])
def test_a_run_that_was_interrupted_is_not_observed(
    database: Connection, project: str, how: dict[str, Any]
) -> None:
    row = run(database, project, result={"duration_seconds": 130}, **how)
    assert row is not None
    assert row["observed_at"] is None
    assert told(database, project) == []


def test_another_project_is_heard_three_times_at_most(database: Connection, project: str) -> None:
    for _ in range(5):
        run(database, project, result={"duration_seconds": 130})
    assert len(told(database, project)) == 5
    assert len(told(database, new_project(database))) == 3


def test_members_see_their_own_and_nobody_writes(database: Connection, project: str) -> None:
    run(database, project, result={"duration_seconds": 130})
    owner = one(database, "select owner_id from projects where id = %s", project)
    for user, seen in ((owner, 1), (uuid4(), 0)):
        database.execute("set local role authenticated")
        database.execute("select set_config('request.jwt.claims', %s, true)", [f'{{"sub": "{user}"}}'])
        assert (
            one(database, "select count(*) from estimate_calibrations where project_id = %s", project) == seen
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege), database.transaction():
            database.execute("delete from estimate_calibrations")
        database.execute("reset role")
