"""What must be true of a job and its runs when nothing is due any more."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tests.shared.jobs.crash.lane import Lane
from tests.shared.jobs.crash.lives import Life

_CALLED_OFF = frozenset({"cancelled", "turned_away"})
_MOVES = ["pending", "uploading", "validating", "queued", "training", "completed"]


@dataclass(frozen=True)
class Run:
    ref: str
    status: str

    @property
    def goes_on_or_was_paid(self) -> bool:
        return self.status not in _CALLED_OFF


def runs_of(lane: Lane, life: Life) -> list[Run]:
    """All that the vendor has made, as it sees them."""
    if life.provider == "openai":
        return [Run(ref, job.body["status"]) for ref, job in lane.openai.vendor.jobs.items()]
    return [Run(ref, trainer.phase) for ref, trainer in lane.trainers.trainers.items()]


def wrong_with(lane: Lane, life: Life, job_id: UUID) -> list[str]:
    """Everything that is not as it must be, in words."""
    row = lane.database.execute(
        "select status::text, provider_job_id, attempt, model_id from public.training_jobs where id = %s",
        [job_id],
    ).fetchone()
    status, ref, attempt, model_id = row or ("deleted", None, None, None)
    wrong = []
    if status != life.end and status not in life.other_ends:
        wrong.append(f"ended as {status}, error {_error(lane, job_id)}")
    wrong += _wrong_runs(runs_of(lane, life), life, status, ref)
    wrong += _wrong_model(lane, job_id, status, model_id, ref)
    wrong += _stuck(lane)
    wrong += _wrong_ledger(lane, job_id, attempt, runs_of(lane, life), status)
    if row:
        wrong += _wrong_history(lane, job_id, status)
    return wrong


def _error(lane: Lane, job_id: UUID) -> object:
    return lane.one("select error from public.training_jobs where id = %s", job_id)


def _wrong_runs(runs: list[Run], life: Life, status: str, ref: str | None) -> list[str]:
    wrong = []
    alive = [run for run in runs if run.goes_on_or_was_paid]
    if len(runs) > life.most_runs:
        wrong.append(f"{len(runs)} runs were made: {runs}")
    if [run.status for run in alive if run.status not in ("succeeded", "completed")]:
        wrong.append(f"a run goes on: {alive}")
    # What is not wanted any more never trains to its end here: it did so before it was deleted.
    expected = (1,) if status == "completed" else (0, 1) if status == "deleted" else (0,)
    if len(alive) not in expected:
        wrong.append(f"{status}, but {len(alive)} runs were not stopped: {runs}")
    if status == "completed" and [run.ref for run in alive] != [ref]:
        wrong.append(f"the job has {ref}, the vendor trained {alive}")
    return wrong


def _wrong_model(lane: Lane, job_id: UUID, status: str, model_id: UUID | None, ref: str | None) -> list[str]:
    models = lane.database.execute(
        "select id, job_id, coalesce(provider_model_id, artifact_path) from public.fine_tuned_models"
    ).fetchall()
    if status != "completed":
        return [f"{status}, but a model is registered: {models}"] if models else []
    if len(models) != 1 or models[0][:2] != (model_id, job_id):
        return [f"the job's model is {model_id}, registered are {models}"]
    tail = (ref or "")[-8:]
    return [] if models[0][2] and tail in models[0][2] else [f"the model {models[0][2]} is not of run {ref}"]


def _stuck(lane: Lane) -> list[str]:
    counts = {
        "jobs not ended": "select count(*) from public.training_jobs where finished_at is null",
        "leases on jobs": "select count(*) from private.training_job_control where lease_token is not null"
        " or lease_expires_at is not null or next_poll_at < 'infinity'",
        "leases on the ledger": "select count(*) from private.provider_attempts"
        " where lease_expires_at > now()",
        "attempts never swept": "select count(*) from private.provider_attempts"
        " where sweeps = 0 and next_sweep_at < 'infinity'",
        "datasets not free": "select count(*) from public.training_datasets where status <> 'ready'",
        "breakers left": "select count(*) from private.provider_breakers where failures > 0",
    }
    return [f"{count} {what}" for what, sql in counts.items() if (count := lane.one(sql))]


def _wrong_ledger(lane: Lane, job_id: UUID, attempt: int | None, runs: list[Run], status: str) -> list[str]:
    ledger = lane.database.execute(
        "select attempt, outcome, provider_job_id, extra_runs, sweeps from private.provider_attempts"
        " where job_id = %s order by attempt",
        [job_id],
    ).fetchall()
    wrong = []
    if attempt is not None and [entry[0] for entry in ledger] != list(range(1, attempt + 1)):
        wrong.append(f"attempt {attempt}, ledger {ledger}")
    if len(runs) > len(ledger):
        wrong.append(f"{len(runs)} runs of {len(ledger)} attempts")
    unknown = [entry for entry in ledger if entry[1] == "unknown"]
    if status == "completed" and unknown:
        wrong.append(f"nobody knows what became of {unknown}")
    return wrong


def _wrong_history(lane: Lane, job_id: UUID, status: str) -> list[str]:
    moves = [
        move
        for (move,) in lane.database.execute(
            "select data ->> 'to' from public.training_job_events where job_id = %s and type = 'status'"
            " order by id",
            [job_id],
        )
    ]
    wrong = []
    if status == "completed" and list(dict.fromkeys(moves)) != _MOVES:
        wrong.append(f"went through {moves}")
    doubled = lane.one(
        "select count(*) - count(distinct (type, message)) from public.training_job_events"
        " where job_id = %s and type in ('provider', 'trainer')",
        job_id,
    )
    if doubled:
        wrong.append(f"{doubled} events are stored twice")
    steps = [
        step
        for (step,) in lane.database.execute(
            "select step from public.training_metrics where job_id = %s order by step", [job_id]
        )
    ]
    if status == "completed" and (not steps or steps != list(range(1, len(steps) + 1))):
        wrong.append(f"metrics of the steps {steps}")
    return wrong
