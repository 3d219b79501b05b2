"""A dataset under review, and the people around it: calls are made as one of them, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[dict[str, Any]]
MEMBERS = ("owner", "editor", "viewer")
ACTORS = (*MEMBERS, "stranger", "anonymous", "service")
# What a step may change beside what it is for.
BOOKKEEPING = ("revision", "updated_at")


class Reviewers:
    """One project with its people, and one dataset in it that is ready."""

    def __init__(self, database: Connection) -> None:
        self.database = database
        self.users = {actor: uuid4() for actor in (*MEMBERS, "stranger")}
        for actor, user in self.users.items():
            database.execute(
                "insert into auth.users (id, email) values (%s, %s)", [user, f"{actor}-{user}@test.local"]
            )
        self.project = self.one(
            "insert into public.projects (owner_id, name) values (%s, 'p') returning id", self.users["owner"]
        )
        for actor in ("editor", "viewer"):
            database.execute(
                "insert into public.project_members (project_id, user_id, role) values (%s, %s, %s)",
                [self.project, self.users[actor], actor],
            )
        self.dataset = self.new_dataset()

    def seen_by(self, database: Connection) -> Reviewers:
        """The same dataset over another connection."""
        other = copy(self)
        other.database = database
        return other

    def one(self, sql: str, *parameters: object) -> Any:
        """The first value of the first row, past RLS."""
        row = self.database.execute(sql, parameters).fetchone()
        assert row is not None
        return next(iter(row.values()))

    def rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        return self.database.execute(sql, parameters).fetchall()

    def new_dataset(self) -> UUID:
        made: UUID = self.one(
            "insert into public.training_datasets (project_id, name, status) values (%s, 'set', 'ready')"
            " returning id",
            self.project,
        )
        return made

    def new_document(self, document_id: UUID | None = None) -> UUID:
        made: UUID = self.one(
            "insert into public.documents (id, project_id, name, storage_path, mime_type, byte_size, status)"
            " values (%s, %s, 'd', %s, 'text/plain', 1, 'ready') returning id",
            document_id or uuid4(),
            self.project,
            f"{self.project}/{uuid4()}",
        )
        return made

    def add(self, assistant: str = "The bridge opens at noon.", **columns: Any) -> UUID:
        """A new pair of the dataset."""
        values = {
            "dataset_id": self.dataset, "project_id": self.project, "ordinal": 0,
            "user_message": "When does it open?", "assistant_message": assistant,
        } | columns  # fmt: skip
        values = {
            name: Jsonb(value) if isinstance(value, dict) or name == "messages" else value
            for name, value in values.items()
        }
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        made: UUID = self.one(
            f"insert into public.training_pairs ({names}) values ({marks}) returning id", *values.values()
        )
        return made

    def pair(self, pair_id: UUID) -> dict[str, Any] | None:
        """Its row; None when there is none."""
        found = self.rows("select * from public.training_pairs where id = %s", pair_id)
        return found[0] if found else None

    def state(self) -> dict[UUID, dict[str, Any]]:
        """All pairs of the dataset, without what every step may change."""
        rows = self.rows("select * from public.training_pairs where dataset_id = %s", self.dataset)
        return {
            row["id"]: {name: value for name, value in row.items() if name not in BOOKKEEPING} for row in rows
        }

    def revisions(self, pair_id: UUID) -> list[dict[str, Any]]:
        return self.rows("select * from public.pair_revisions where pair_id = %s order by revision", pair_id)

    @contextmanager
    def acting(self, actor: str) -> Iterator[None]:
        """The database as this one sees it; what was done stays."""
        role = {"anonymous": "anon", "service": "service_role"}.get(actor, "authenticated")
        claims = {"role": role} | ({"sub": str(self.users[actor])} if actor in self.users else {})
        with self.database.transaction():
            self.database.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
            self.database.execute(f"set local role {role}")
            yield
            self.database.execute("reset role")

    def call(self, function: str, actor: str = "editor", **parameters: Any) -> Any:
        """What a function answers; parameters are named p_<name>."""
        named = {
            f"p_{name}": Jsonb(value) if name in ("changes", "filter") else value
            for name, value in parameters.items()
        }
        marks = ", ".join(f"{name} => %({name})s" for name in named)
        with self.acting(actor):
            row = self.database.execute(f"select public.{function}({marks}) as answer", named).fetchone()
            assert row is not None
            return row["answer"]

    def review(self, action: str, *pair_ids: UUID, actor: str = "editor", **more: Any) -> dict[str, Any]:
        """A call of review_pairs for these pairs, or for a filter."""
        if pair_ids:
            more["pair_ids"] = list(pair_ids)
        answer: dict[str, Any] = self.call(
            "review_pairs", actor, dataset_id=self.dataset, action=action, **more
        )
        return answer

    def edit(
        self, pair_id: UUID, actor: str = "editor", *, revision: int | None = None, **changes: Any
    ) -> Any:
        return self.call("edit_pair", actor, pair_id=pair_id, changes=changes, expected_revision=revision)


@contextmanager
def refused(code: str, status: int | None = None) -> Iterator[None]:
    """The block is refused with this code, in the shape that PostgREST passes on."""
    with pytest.raises(psycopg.DatabaseError) as caught:
        yield
    if code == "42501":
        assert caught.value.sqlstate == code
        return
    assert caught.value.sqlstate == "PGRST", caught.value
    said = json.loads(caught.value.diag.message_primary or "")
    detail = json.loads(caught.value.diag.message_detail or "")
    assert said["code"] == code, said
    assert said["message"].endswith(".")
    assert status in (None, detail["status"])
    assert detail["headers"] == {}
