"""The SQL functions of jobs in memory, on imagined time. test_database.py holds them to the real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

from shared.db import Database, Row
from shared.jobs.model import Job
from shared.jobs.state import ENDED, TRANSITIONS, JobStatus

_FIRST: Row = {
    "status": "pending", "version": 1, "provider_job_id": None, "attempt": 0, "timeout_seconds": 21_600,
    "cancel_requested_at": None, "stop_reason": None, "spend_cap_usd": None, "progress_percent": 0,
    "current_step": "Waiting to start", "epoch": None, "step": None, "total_steps": None,
    "training_loss": None, "validation_loss": None, "trained_tokens": None, "cost_usd": None,
    "gpu": None, "gpu_count": 1, "base_revision": None, "error": None, "model_id": None,
    "usd_per_second": None,
    "submitted_at": None, "deadline_at": None, "started_at": None,
}  # fmt: skip
_PATCHED = set(Job.__dataclass_fields__) | {"error", "model_id"}


class Refused(Exception):
    """What the database's own rules refuse."""


class MemoryDatabase(Database):
    """Holds jobs, their control rows, the ledger of attempts and the breakers. Each call is atomic."""

    def __init__(self, now: Callable[[], float], new_uuid: Callable[[], UUID]) -> None:
        self.now, self._new_uuid = now, new_uuid
        self.jobs: dict[str, Row] = {}
        self.control: dict[str, Row] = {}
        self.attempts: dict[tuple[str, int], Row] = {}
        self.breakers: dict[tuple[str, str], Row] = {}
        self.models: list[str] = []  # job ids, one a registered model
        self.history: dict[tuple[str, str], None] = {}  # job id, event id; in the order of arrival
        self.ended_at: dict[str, float] = {}

    def add_job(self, **columns: Any) -> UUID:
        """A new pending job."""
        job_id = self._new_uuid()
        names = {name: str(self._new_uuid()) for name in ("project_id", "dataset_id", "user_id")}
        self.jobs[str(job_id)] = _FIRST | names | {"id": str(job_id)} | columns
        self.control[str(job_id)] = {
            "lease_token": None, "lease_expires_at": None, "next_poll_at": self.now(), "failures": 0,
            "crashes": 0, "run_id": None, "status_since": self.now(), "claimed_at": None, "trainer_ref": None,
            "trainer_result": None, "cursor": None, "not_found": 0, "not_found_since": None,
        }  # fmt: skip
        return job_id

    async def find(self, table: str, columns: str = "*", **equals: Any) -> Row | None:
        job = self.jobs.get(str(equals["id"]))
        return dict(job) if job else None

    async def call(self, function: str, **parameters: Any) -> Any:
        return getattr(self, function)(**parameters)

    def claim_training_jobs(self, limit: int, lease_seconds: float, job_id: str | None = None) -> list[Row]:
        now = self.now()
        due = [
            (control["next_poll_at"], key)
            for key, control in self.control.items()
            if (key == job_id if job_id else control["next_poll_at"] <= now)
            and self.jobs[key]["status"] not in ENDED
            and not _after(control["lease_expires_at"], now)
            and not _after((self._breaker(key) or {}).get("open_until"), now)
        ]
        claims, tried = [], set()
        for _, key in sorted(due)[:limit]:
            breaker = self._breaker(key)
            if breaker and breaker["failures"] >= 5:
                account = self._account(key)
                if account in tried:
                    continue
                tried.add(account)
                breaker["open_until"] = now + 30
            claims.append(self._claim(key, lease_seconds))
        return claims

    def _claim(self, key: str, lease_seconds: float) -> Row:
        now, job, control = self.now(), self.jobs[key], self.control[key]
        control |= {"lease_token": str(self._new_uuid()), "lease_expires_at": now + lease_seconds}
        kept = ("lease_token", "failures", "crashes", "cursor", "trainer_ref", "trainer_result", "not_found")
        since = control["claimed_at"] if control["claimed_at"] is not None else job["started_at"]
        priced = job["usd_per_second"] is not None and since is not None
        return (
            dict(job)
            | {name: control[name] for name in kept}
            | {
                "is_claimed": control["run_id"] is not None,
                "is_overdue": job["deadline_at"] is not None and job["deadline_at"] < now,
                "status_seconds": now - control["status_since"],
                "submitted_seconds_ago": _ago(job["submitted_at"], now),
                "cancel_seconds_ago": _ago(job["cancel_requested_at"], now),
                "not_found_seconds": _ago(control["not_found_since"], now) or 0,
                "cost_so_far_usd": job["usd_per_second"] * (now - since) if priced else None,
                "breaker_failures": (self._breaker(key) or {"failures": 0})["failures"],
            }
        )

    def move_training_job(
        self,
        job_id: str,
        lease_token: str,
        statuses: list[JobStatus],
        patch: Row,
        release_seconds: float | None,
        control: Row,
        history: Row,
    ) -> Row | None:
        now, kept = self.now(), self.control.get(job_id)
        if kept is None or kept["lease_token"] != lease_token:
            return None
        job = self.jobs[job_id]
        outcome = control.get("attempt_outcome")
        if statuses == [JobStatus.PENDING] and kept["run_id"] is not None and outcome == "not_found":
            statuses, patch, outcome = [], {}, None
        changed = {name: value for name, value in patch.items() if name in _PATCHED}
        self._allow(job, statuses, changes=changed != {name: job[name] for name in changed})
        if "submit" in patch:
            self._submit(job, control)
        if changed:
            job |= changed
            job["version"] += 1
        self.history |= dict.fromkeys((job_id, event["id"]) for event in history.get("events", []))
        for status in statuses:
            self._walk(job, status)
        attempt = self.attempts.get((job_id, job["attempt"]))
        if attempt and "sweep_after_seconds" in control and "submit" not in patch:
            attempt["next_sweep_at"] = now + control["sweep_after_seconds"]
        if attempt and outcome:
            attempt |= {"outcome": outcome, "provider_job_id": job["provider_job_id"]}
            earlier = [self.attempts[job_id, number]["outcome"] for number in range(1, job["attempt"])]
            if outcome == "refused" and all(past == "refused" for past in earlier):
                attempt["next_sweep_at"] = math.inf
        if release_seconds is not None:
            not_found = bool(control.get("not_found"))
            since = kept["not_found_since"] if kept["not_found_since"] is not None else now
            self._release(kept, release_seconds)
            kept |= {
                "failures": control.get("failures", 0),
                "crashes": control.get("crashes", 0),
                "cursor": control.get("cursor", kept["cursor"]),
                "not_found": kept["not_found"] + 1 if not_found else 0,
                "not_found_since": since if not_found else None,
            }
        return dict(job)

    def _submit(self, job: Row, control: Row) -> None:
        now = self.now()
        job["attempt"] += 1
        job["submitted_at"] = now
        job["deadline_at"] = (
            now + job["timeout_seconds"] if job["deadline_at"] is None else job["deadline_at"]
        )
        job["version"] += 1
        kept = ("run_id", "trainer_ref", "trainer_result", "claimed_at", "cursor")
        self.control[job["id"]] |= dict.fromkeys(kept)
        for (job_id, _), attempt in self.attempts.items():
            if job_id == job["id"]:
                attempt["next_sweep_at"] = math.inf
        self.attempts[job["id"], job["attempt"]] = {
            "provider": job["provider"], "user_id": job["user_id"], "submitted_at": now, "outcome": "unknown",
            "provider_job_id": None, "sweeps": 0, "next_sweep_at": now + control["sweep_after_seconds"],
            "extra_runs": 0, "lease_expires_at": None,
        }  # fmt: skip

    def _allow(self, job: Row, statuses: list[JobStatus], *, changes: bool) -> None:
        """Raises Refused before anything was written: all of a transaction happens, or nothing."""
        now_at = JobStatus(job["status"])
        if changes and now_at in ENDED:
            raise Refused(f"{job['id']} has ended")
        for status in statuses:
            if (now_at, status) not in TRANSITIONS and (now_at != status or now_at in ENDED):
                raise Refused(f"{job['id']} cannot go from {now_at} to {status}")
            now_at = status

    def _walk(self, job: Row, status: JobStatus) -> None:
        if job["status"] == status:
            return
        job["status"] = str(status)
        job["version"] += 1
        self.control[job["id"]]["status_since"] = self.now()
        if status == JobStatus.TRAINING and job["started_at"] is None:
            job["started_at"] = self.now()
        if status in ENDED:
            self.control[job["id"]]["next_poll_at"] = math.inf
            self.ended_at[job["id"]] = self.now()

    def _release(self, control: Row, seconds: float) -> None:
        control |= {"lease_token": None, "lease_expires_at": None}
        if control["next_poll_at"] < math.inf:
            control["next_poll_at"] = self.now() + seconds

    def complete_training_job(
        self, job_id: str, lease_token: str, statuses: list[JobStatus], patch: Row, model: Row, history: Row
    ) -> Row | None:
        kept = self.control.get(job_id)
        if kept is None or kept["lease_token"] != lease_token:
            return None
        if job_id in self.models:
            raise Refused(f"{job_id} has a model")
        self.models.append(job_id)
        patch = patch | {"model_id": str(self._new_uuid())}
        return self.move_training_job(job_id, lease_token, statuses, patch, 0, {}, history)

    def release_training_jobs(self, releases: list[Row]) -> int:
        released = 0
        for release in releases:
            control = self.control.get(release["job_id"])
            if control and control["lease_token"] == release["lease_token"]:
                self._release(control, release["release_seconds"])
                control |= {"failures": 0, "crashes": 0, "not_found": 0, "not_found_since": None}
                released += 1
        return released

    def request_training_cancel(self, job_id: str, reason: str) -> Row:
        job = self.jobs[job_id]
        if job["status"] in ENDED:
            return {"outcome": "already_ended", "job": dict(job)}
        if job["cancel_requested_at"] is None:
            job |= {"cancel_requested_at": self.now(), "stop_reason": reason, "current_step": "Cancelling..."}
            job["version"] += 1
        self.control[job_id]["next_poll_at"] = self.now()
        return {"outcome": "requested", "job": dict(job)}

    def hint_training_job(self, job_id: str) -> bool:
        control = self.control.get(job_id)
        if control is None or control["next_poll_at"] == math.inf:
            return False
        control["next_poll_at"] = self.now()
        return True

    def report_training(
        self, job_id: str, attempt: int, run_id: str, reports: list[Row], provider_job_id: str | None
    ) -> Row:
        job, control = self.jobs.get(job_id), self.control.get(job_id)
        if job is None or control is None:
            return {"outcome": "job_not_found"}
        claimed = control["run_id"] or run_id
        if job["attempt"] != attempt or claimed != run_id or job["status"] in (*ENDED, JobStatus.PENDING):
            return {"outcome": "claim_lost", "status": job["status"]}
        control |= {
            "run_id": run_id,
            "claimed_at": self.now() if control["claimed_at"] is None else control["claimed_at"],
            "trainer_ref": control["trainer_ref"] or provider_job_id,
        }
        results = [report["result"] for report in reports if report["kind"] == "result"]
        if results:
            control["trainer_result"] = results[-1]
            self.hint_training_job(job_id)
        return {
            "outcome": "accepted",
            "status": job["status"],
            "cancel_requested": job["cancel_requested_at"] is not None,
            "has_result": bool(results),
        }

    def note_provider_failure(self, provider: str, user_id: str, seconds: float, counts: bool) -> int:
        breaker = self.breakers.setdefault((provider, user_id), {"failures": 0, "open_until": -math.inf})
        breaker["failures"] += counts
        pause = min(300, 10 * 2 ** (breaker["failures"] - 5)) if breaker["failures"] >= 5 else 0
        breaker["open_until"] = max(breaker["open_until"], self.now() + max(seconds, pause))
        return int(breaker["failures"])

    def note_provider_success(self, provider: str, user_id: str) -> None:
        self.breakers.pop((provider, user_id), None)

    def claim_run_sweeps(self, limit: int, lease_seconds: float) -> list[Row]:
        now = self.now()
        due = sorted(
            (attempt["next_sweep_at"], key)
            for key, attempt in self.attempts.items()
            if attempt["next_sweep_at"] <= now and not _after(attempt["lease_expires_at"], now)
        )
        claimed = []
        for _, (job_id, number) in due[:limit]:
            attempt, job = self.attempts[job_id, number], self.jobs.get(job_id)
            attempt["lease_expires_at"] = now + lease_seconds
            claimed.append(
                {
                    "job_id": job_id,
                    "attempt": number,
                    "provider": attempt["provider"],
                    "user_id": attempt["user_id"],
                    "status": job["status"] if job else None,
                    "provider_job_id": (job and job["provider_job_id"]) or attempt["provider_job_id"],
                }
            )
        return claimed

    def finish_run_sweep(
        self, job_id: str, attempt: int, extra_runs: int, retry_seconds: float | None
    ) -> None:
        kept, now = self.attempts[job_id, attempt], self.now()
        if retry_seconds is not None:
            next_sweep = now + retry_seconds
        else:
            after = {0: 600, 1: 3600}.get(kept["sweeps"], math.inf)
            next_sweep = max(now, kept["submitted_at"] + after)
            kept["sweeps"] += 1
        kept |= {"lease_expires_at": None, "next_sweep_at": next_sweep}
        kept["extra_runs"] += extra_runs

    def delete_job(self, job_id: str) -> None:
        """As a user may, at any time."""
        if self.jobs[job_id]["status"] not in ENDED:
            for (owner, _), attempt in self.attempts.items():
                if owner == job_id and attempt["outcome"] != "refused":
                    attempt |= {"sweeps": 0, "next_sweep_at": self.now()}
        del self.jobs[job_id], self.control[job_id]

    def next_due(self) -> float:
        """When a tick will next find something to do; infinity: never."""
        jobs = (c["next_poll_at"] for key, c in self.control.items() if self.jobs[key]["status"] not in ENDED)
        sweeps = (attempt["next_sweep_at"] for attempt in self.attempts.values())
        return min([*jobs, *sweeps], default=math.inf)

    def _account(self, key: str) -> tuple[str, str]:
        return self.jobs[key]["provider"], self.jobs[key]["user_id"]

    def _breaker(self, key: str) -> Row | None:
        return self.breakers.get(self._account(key))


def _after(moment: float | None, now: float) -> bool:
    return moment is not None and moment > now


def _ago(moment: float | None, now: float) -> float | None:
    return None if moment is None else now - moment
