"""Many jobs of several users, and what became of them."""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import psycopg
from pydantic import SecretStr

from shared.keys.crypto import KeySealer
from shared.training.catalog import TINY, resolve
from shared.training.config import TrainingConfig
from tests.fakes.openai import API_KEY

_USERS = 20
_PAIRS = 12
_BASES = {"openai": "gpt-4.1-mini-2025-04-14", "claiming": TINY}
_CALLED_OFF = frozenset({"cancelled", "turned_away"})


@dataclass(frozen=True)
class Plan:
    """A job, and when its user comes: seconds after the beginning. None: no stop is asked for."""

    provider: str
    starts_at: float
    cancel_at: float | None


@dataclass
class Findings:
    """Job ids by what is wrong with them."""

    lost: list[str] = field(
        default_factory=list
    )  # it has a trained model at the provider, and does not say so
    duplicates: list[str] = field(default_factory=list)  # more than one run was not stopped
    wrong_terminal: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    runs_created: int = 0

    def is_good(self) -> bool:
        return not (self.lost or self.duplicates or self.wrong_terminal or self.stuck)


def plans(count: int, per_second: float, seed: int) -> list[Plan]:
    """Three of four jobs at OpenAI; a third is cancelled at some time of its life."""
    random = Random(seed)
    made = []
    for number in range(count):
        starts_at = random.uniform(0, count / per_second)
        cancel_at = starts_at + random.uniform(0, 12) if number % 3 == 0 else None
        made.append(Plan(random.choice(("openai", "openai", "openai", "claiming")), starts_at, cancel_at))
    return made


def insert(database_url: str, plans: list[Plan], secret: SecretStr, openai_url: str) -> list[UUID]:
    """A row for each plan, in their order, each with a dataset of its own; due when its plan says."""
    with psycopg.connect(database_url) as database:
        users = _insert_users(database, secret, openai_url)
        projects = [
            _one(database, "insert into public.projects (owner_id, name) values (%s, 'p') returning id", user)
            for user in users
        ]
        ids = []
        for number, plan in enumerate(plans):
            owner = number % _USERS
            dataset = _insert_dataset(database, projects[owner])
            ids.append(_insert_job(database, plan, users[owner], dataset, number))
    return ids


def findings(database_url: str, ids: list[UUID], plans: list[Plan], vendors: list[str]) -> Findings:
    """What is wrong with which job, now that all has come to rest."""
    runs = _runs(vendors)
    found = Findings(runs_created=sum(map(len, runs.values())))
    with psycopg.connect(database_url) as database:
        rows = database.execute(
            "select j.id, j.status::text, j.provider_job_id, d.status, c.lease_token is not null,"
            " (select count(*) from public.fine_tuned_models m where m.job_id = j.id)"
            " from public.training_jobs j join public.training_datasets d on d.id = j.dataset_id"
            " join private.training_job_control c on c.job_id = j.id where j.id = any(%s)",
            [ids],
        ).fetchall()
    by_id = {row[0]: row[1:] for row in rows}
    for job_id, plan in zip(ids, plans, strict=True):
        status, ref, dataset, is_leased, models = by_id.get(job_id, ("missing", None, "", False, 0))
        called_off = _CALLED_OFF if status == "completed" else _CALLED_OFF | {"stopped_at_its_end"}
        kept = {run: word for run, word in runs[str(job_id)].items() if word not in called_off}
        name = f"{job_id} ({plan.provider}, {status}, runs {runs[str(job_id)]})"
        if status == "missing" or (kept and status != "completed"):
            found.lost.append(name)
        if len(kept) > 1:
            found.duplicates.append(name)
        if dataset != "ready" or is_leased or status not in ("completed", "failed", "cancelled"):
            found.stuck.append(name)
        allowed = ("completed",) if plan.cancel_at is None else ("completed", "cancelled")
        is_whole = status != "completed" or (models == 1 and list(kept) == [ref])
        if status not in allowed or not is_whole or (status != "completed" and models):
            found.wrong_terminal.append(name)
    return found


def _runs(vendors: list[str]) -> dict[str, dict[str, str]]:
    """By job: the status of each of its runs, as the vendor sees it."""
    runs: dict[str, dict[str, str]] = defaultdict(dict)
    for url in vendors:
        with urllib.request.urlopen(f"{url}/_fake/state", timeout=30) as answer:
            for run in json.loads(answer.read())["runs"]:
                job_id = run["job"] if "job" in run else run["metadata"]["fineflow_job"]
                runs[job_id][run["id"]] = run["status"]
    return runs


def _insert_users(database: psycopg.Connection, secret: SecretStr, openai_url: str) -> list[UUID]:
    sealer = KeySealer(secret)
    users = []
    for number in range(_USERS):
        user: UUID = _one(
            database,
            "insert into auth.users (id, email) values (gen_random_uuid(), %s) returning id",
            f"chaos-{number}@test.local",
        )
        sealed = sealer.seal(SecretStr(API_KEY), user_id=user, provider="openai", base_url=openai_url)
        database.execute(
            "insert into public.user_api_keys (user_id, provider, ciphertext, key_id, last_four, base_url)"
            " values (%s, 'openai', %s, %s, %s, %s)",
            [user, sealed, sealer.key_id, API_KEY[-4:], openai_url],
        )
        users.append(user)
    return users


def _insert_dataset(database: psycopg.Connection, project: UUID) -> UUID:
    dataset: UUID = _one(
        database,
        "insert into public.training_datasets (project_id, name, status, pair_count)"
        " values (%s, 'd', 'ready', %s) returning id",
        project,
        _PAIRS,
    )
    database.execute(
        "insert into public.training_pairs (dataset_id, project_id, ordinal, user_message,"
        " assistant_message, token_count) select %s, %s, n, 'What opens door ' || n || '?',"
        " 'Door ' || n || ' opens with ' || n * 7 || '.', 12 from generate_series(1, %s) n",
        [dataset, project, _PAIRS],
    )
    return dataset


def _insert_job(database: psycopg.Connection, plan: Plan, user: UUID, dataset: UUID, number: int) -> UUID:
    base = _BASES[plan.provider]
    job = {
        "dataset_id": str(dataset),
        "user_id": str(user),
        "idempotency_key": f"chaos-{number}",
        "request_hash": "h",
        "provider": plan.provider,
        "base_model": base,
        "method": "full",
        "model_name": f"chaos-{number}",
        "training_config": resolve(TrainingConfig(epochs=1), base, "full").model_dump(mode="json"),
        "timeout_seconds": 86_400,
    }
    answer: dict[str, Any] = _one(database, "select public.create_training_job(%s)", json.dumps(job))
    job_id = UUID(answer["job"]["id"])
    database.execute(
        "update private.training_job_control set next_poll_at = now() + make_interval(secs => %s)"
        " where job_id = %s",
        [plan.starts_at, job_id],
    )
    return job_id


def _one(database: psycopg.Connection, sql: str, *parameters: object) -> Any:
    row = database.execute(sql, parameters).fetchone()
    assert row
    return row[0]
