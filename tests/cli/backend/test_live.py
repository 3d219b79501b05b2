"""Following a row: old news is dropped, and a missing channel costs time, not truth."""

import pytest

from cli.backend import live
from cli.backend.client import anonymous_client
from cli.backend.live import follow, newer
from cli.exits import CliError

JOB = {"id": "j", "version": 5, "status": "training", "training_config": {"epochs": 3}}


def test_only_a_larger_version_is_news() -> None:
    assert newer(JOB, {"version": 4, "status": "queued"}) is None
    assert newer(JOB, {"version": 5, "status": "queued"}) is None
    assert newer(JOB, {"version": 5, "status": "queued"}, fetched=True) is None


def test_what_realtime_left_out_is_kept() -> None:
    assert newer(JOB, {"version": 6, "status": "completed"}) == {**JOB, "version": 6, "status": "completed"}


def test_without_a_version_time_decides_and_a_fetched_row_always_wins() -> None:
    known = {"status": "ready", "updated_at": "2026-11-20T10:00:00.5+00:00"}
    older = {"status": "processing", "updated_at": "2026-11-20 10:00:00.4+00"}
    assert newer(known, older) is None
    assert newer(older, known) == known
    assert newer(known, older, fetched=True) == older


async def test_without_realtime_the_row_is_polled(loopback, connection, monkeypatch) -> None:
    monkeypatch.setattr(live, "POLL_SECONDS", 0.01)
    states = iter([(1, "pending"), (2, "training"), (2, "training"), (3, "completed")])

    def row() -> tuple[int, list[dict[str, object]]]:
        version, status = next(states)
        return 200, [{"id": "j", "version": version, "status": status}]

    loopback.answers["GET", "/rest/v1/training_jobs"] = row
    seen = []
    async with anonymous_client(connection) as client:
        ended = await follow(
            client,
            "training_jobs",
            "j",
            until=lambda job: job["status"] == "completed",
            on_update=lambda update: seen.append((update.row["version"], update.latency_ms)),
        )
    assert ended["version"] == 3
    assert seen == [(1, None), (2, None), (3, None)]


async def test_a_row_that_does_not_exist_is_an_error(loopback, connection) -> None:
    loopback.answer("GET", "/rest/v1/training_jobs", 200, [])
    async with anonymous_client(connection) as client:
        with pytest.raises(CliError, match="is gone"):
            await follow(client, "training_jobs", "j", until=lambda job: True)
