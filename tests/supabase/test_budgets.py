"""What a project may spend, and what one run may: at the level of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from devstack.up import Stack

Connection = psycopg.Connection[dict[str, Any]]


class Books:
    """A project with a budget, and jobs in it."""

    def __init__(self, database: Connection, *, budget: float | None, enforcement: str) -> None:
        self.database = database
        self.user = uuid4()
        database.execute(
            "insert into auth.users (id, email) values (%s, %s)", [self.user, f"{self.user}@test.local"]
        )
        self.project = self._one(
            "insert into public.projects (owner_id, name, monthly_budget_usd, budget_enforcement)"
            " values (%s, 'p', %s, %s) returning id",
            [self.user, budget, enforcement],
        )["id"]

    def seen_by(self, database: Connection) -> Books:
        """The same books over another connection."""
        other = copy(self)
        other.database = database
        return other

    def start(self, **job: Any) -> dict[str, Any]:
        """The answer of create_training_job for a dataset of its own."""
        dataset = self._one(
            "insert into public.training_datasets (project_id, name, status) values (%s, %s, 'ready')"
            " returning id",
            [self.project, uuid4().hex],
        )["id"]
        asked = {
            "dataset_id": str(dataset), "user_id": str(self.user), "idempotency_key": uuid4().hex,
            "request_hash": "h", "provider": "scripted", "base_model": "m", "method": "full",
            "model_name": "m", "training_config": {}, "timeout_seconds": 3600,
        }  # fmt: skip
        answer: dict[str, Any] = self._one(
            "select public.create_training_job(%s) as answer", [Jsonb(asked | job)]
        )["answer"]
        return answer

    def standing(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._one("select public.budget_standing(%s) as answer", [self.project])[
            "answer"
        ]
        return answer

    def job(self, job_id: str) -> dict[str, Any]:
        return self._one("select * from public.training_jobs where id = %s", [job_id])

    def set(self, job_id: str, assignments: str) -> dict[str, Any]:
        """The job after an update of it."""
        self.database.execute(f"update public.training_jobs set {assignments} where id = %s", [job_id])
        return self.job(job_id)

    def end(self, job_id: str, *, cost: float | None, status: str = "completed") -> None:
        if status == "completed":
            for step in ("uploading", "validating", "queued", "training"):
                self.set(job_id, f"status = '{step}'")
        self.set(job_id, f"cost_usd = {'null' if cost is None else cost}, status = '{status}'")

    def _one(self, sql: str, parameters: list[Any]) -> dict[str, Any]:
        row = self.database.execute(sql, parameters).fetchone()
        assert row is not None
        return row


@pytest.fixture
def books(database: Connection) -> Books:
    return Books(database, budget=10, enforcement="block")


@pytest.fixture
def two_at_once(stack: Stack) -> Iterator[tuple[Books, Books]]:
    """The same books in two transactions, each of which sees only what the other has committed."""
    with psycopg.connect(stack.database_url, row_factory=dict_row, autocommit=True) as outside:
        # What is committed here must not be looked at by the functions of the stack.
        outside.execute("alter table public.training_jobs disable trigger call_start_training")
        books = Books(outside, budget=10, enforcement="block")
        try:
            with (
                psycopg.connect(stack.database_url, row_factory=dict_row) as first,
                psycopg.connect(stack.database_url, row_factory=dict_row) as second,
            ):
                yield books.seen_by(first), books.seen_by(second)
        finally:
            outside.execute("delete from auth.users where id = %s", [books.user])
            outside.execute("alter table public.training_jobs enable trigger call_start_training")


def test_a_start_waits_for_the_one_before_it_and_counts_it(
    database: Connection, two_at_once: tuple[Books, Books]
) -> None:
    first, second = two_at_once
    assert first.start(estimated_cost_usd=6)["outcome"] == "created"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.start, estimated_cost_usd=6)
        blocked = "select %s = any(pg_blocking_pids(%s)) as so"
        pids = [first.database.info.backend_pid, second.database.info.backend_pid]
        while not waiting.done() and database.execute(blocked, pids).fetchone() == {"so": False}:
            pass
        assert not waiting.done()
        first.database.commit()
        assert waiting.result()["outcome"] == "budget_exceeded"
    second.database.rollback()


def test_a_project_without_a_budget_lets_everything_through(database: Connection) -> None:
    books = Books(database, budget=None, enforcement="block")
    assert books.start(estimated_cost_usd=1000)["outcome"] == "created"
    assert books.start()["outcome"] == "created"
    assert books.standing()["remaining_usd"] is None


def test_what_is_under_way_is_held_back_and_what_has_ended_is_spent(books: Books) -> None:
    first = books.start(estimated_cost_usd=3, reserved_usd=4)["job"]["id"]
    second = books.start(estimated_cost_usd=2)["job"]["id"]
    assert (books.standing()["spent_usd"], books.standing()["reserved_usd"]) == (0, 6)
    books.set(first, "cost_usd = 5")  # more than was thought
    assert books.standing()["reserved_usd"] == 7
    books.end(first, cost=5.5)
    books.end(second, cost=None, status="cancelled")
    standing = books.standing()
    assert (standing["spent_usd"], standing["reserved_usd"], standing["remaining_usd"]) == (5.5, 0, 4.5)


def test_a_completed_job_that_says_no_cost_counts_as_estimated(books: Books) -> None:
    books.end(books.start(estimated_cost_usd=2)["job"]["id"], cost=None)
    assert books.standing()["spent_usd"] == 2


def test_last_month_is_another_budget(books: Books) -> None:
    job = books.start(estimated_cost_usd=9)["job"]["id"]
    books.end(job, cost=9)
    books.database.execute("alter table public.training_jobs disable trigger check_job_change")
    books.set(job, "finished_at = date_trunc('month', now() at time zone 'UTC') at time zone 'UTC'")
    assert books.standing()["spent_usd"] == 9
    books.set(
        job,
        "finished_at = date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' - interval '1 ms'",
    )
    assert books.standing()["spent_usd"] == 0


def test_the_projection_goes_on_at_the_same_rate(books: Books) -> None:
    books.end(books.start(estimated_cost_usd=4)["job"]["id"], cost=4)
    books.start(estimated_cost_usd=1)
    row = books.database.execute(
        "select extract(epoch from now() at time zone 'UTC' - date_trunc('month', now() at time zone 'UTC'))"
        " / 86400 as passed, extract(day from date_trunc('month', now() at time zone 'UTC')"
        " + interval '1 month' - interval '1 day') as days"
    ).fetchone()
    assert row
    expected = 4 * float(row["days"]) / max(float(row["passed"]), 1) + 1
    assert books.standing()["projected_month_usd"] == pytest.approx(expected, abs=1e-6)


def test_a_budget_blocks_at_the_cent(books: Books) -> None:
    assert books.start(estimated_cost_usd=6)["outcome"] == "created"
    refused = books.start(estimated_cost_usd=3, reserved_usd=4.000001)
    assert refused["outcome"] == "budget_exceeded"
    assert (refused["held_usd"], refused["budget"]["remaining_usd"]) == (4.000001, 4)
    assert books.start(estimated_cost_usd=4)["outcome"] == "created"
    assert books.start(estimated_cost_usd=0)["outcome"] == "created"  # free: passes a budget that is used up
    assert books.start(estimated_cost_usd=0.000001)["outcome"] == "budget_exceeded"


def test_a_refused_start_leaves_nothing(books: Books) -> None:
    assert books.start(estimated_cost_usd=11)["outcome"] == "budget_exceeded"
    counts = books.database.execute(
        "select (select count(*) from training_jobs where project_id = %s) as jobs,"
        " (select count(*) from training_datasets where project_id = %s and status = 'training') as held",
        [books.project, books.project],
    ).fetchone()
    assert counts == {"jobs": 0, "held": 0}


def test_an_unknown_cost_needs_a_cap_and_the_cap_is_held_back(books: Books) -> None:
    assert books.start()["outcome"] == "cost_unknown"
    created = books.start(spend_cap_usd=4)
    assert (created["outcome"], created["job"]["reserved_usd"]) == ("created", 4)
    assert books.start(spend_cap_usd=7)["outcome"] == "budget_exceeded"
    assert books.start(estimated_cost_usd=100, spend_cap_usd=6)["outcome"] == "created"


@pytest.mark.parametrize(("cost", "words"), [(11, "over its budget"), (None, "not known")])
def test_a_warning_budget_lets_through_and_says_so(
    database: Connection, cost: float | None, words: str
) -> None:
    books = Books(database, budget=10, enforcement="warn")
    created = books.start(estimated_cost_usd=cost)
    assert created["outcome"] == "created"
    (warning,) = created["warnings"]
    assert words in warning
    event = database.execute(
        "select level, message from training_job_events where job_id = %s and type = 'budget'",
        [created["job"]["id"]],
    ).fetchall()
    assert event == [{"level": "warning", "message": warning}]
    off = Books(database, budget=10, enforcement="off")
    assert off.start(estimated_cost_usd=cost)["warnings"] == []


def test_a_cap_stops_a_run_and_makes_it_due(books: Books) -> None:
    job = books.start(estimated_cost_usd=3, spend_cap_usd=2)["job"]["id"]
    books.database.execute(
        "update private.training_job_control set next_poll_at = now() + interval '1 hour' where job_id = %s",
        [job],
    )
    under = books.set(job, "cost_usd = 1.999999")
    assert (under["stop_reason"], under["cancel_requested_at"]) == (None, None)
    reached = books.set(job, "cost_usd = 2")
    assert reached["stop_reason"] == "spend_cap"
    assert reached["cancel_requested_at"] is not None
    assert reached["current_step"] == "Stopping: 2.00 USD spent, and 2.00 is the most for this run"
    due = books.database.execute(
        "select next_poll_at <= now() as due from private.training_job_control where job_id = %s", [job]
    ).fetchone()
    assert due == {"due": True}
    books.set(job, "cost_usd = 2.5")  # the run is asked once
    events = books.database.execute(
        "select level from training_job_events where job_id = %s and type = 'spend_cap'", [job]
    ).fetchall()
    assert events == [{"level": "warning"}]


def test_a_cap_changes_nothing_about_a_job_that_was_stopped_or_has_ended(books: Books) -> None:
    stopped = books.start(estimated_cost_usd=1, spend_cap_usd=1)["job"]["id"]
    books.set(stopped, "cancel_requested_at = now(), stop_reason = 'user'")
    assert books.set(stopped, "cost_usd = 1")["stop_reason"] == "user"
    failed = books.start(estimated_cost_usd=1, spend_cap_usd=1)["job"]["id"]
    books.set(failed, """cost_usd = 5, error = '{"code": "x", "message": "y"}'""")
    assert books.set(failed, "status = 'failed'")["stop_reason"] is None
    assert books.start(estimated_cost_usd=1)["job"]["spend_cap_usd"] is None


def test_the_standing_is_for_members(books: Books) -> None:
    def seen(user: object) -> object:
        with books.database.transaction(force_rollback=True):
            books.database.execute(
                "select set_config('request.jwt.claims', json_build_object('sub', %s::text)::text, true)",
                [str(user)],
            )
            books.database.execute("set local role authenticated")
            return books.standing()

    assert isinstance(seen(books.user), dict)
    assert seen(uuid4()) is None
