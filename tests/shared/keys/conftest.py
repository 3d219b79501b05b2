"""Stored keys in the embedded stack's database, opened with master secrets that a test chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import SecretStr

from devstack.up import Stack
from shared.db import Database, http_client
from shared.keys.crypto import KeySealer
from shared.keys.store import KeyStore


@dataclass
class Bench:
    """One database; `store` opens it as a server with these master secrets would."""

    db: Database
    url: str

    def store(self, *secrets: SecretStr) -> KeyStore:
        return KeyStore(self.db, KeySealer(*secrets))

    def users(self, count: int) -> list[UUID]:
        """New users, who are gone after the test with all their keys."""
        users = [uuid4() for _ in range(count)]
        with psycopg.connect(self.url) as database, database.cursor() as cursor:
            cursor.executemany(
                "insert into auth.users (id, email) values (%s, %s)",
                [(user, f"bench-{user}@test.local") for user in users],
            )
        return users

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as database:
            cursor = database.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def stack_database(stack: Stack) -> Iterator[str]:
    yield stack.database_url
    with psycopg.connect(stack.database_url) as database:
        database.execute("delete from auth.users where email like 'bench-%'")


@pytest.fixture
async def bench(stack: Stack, stack_database: str) -> AsyncIterator[Bench]:
    async with http_client() as http:
        yield Bench(
            Database(stack.url, api_key=stack.secret_key, bearer=stack.secret_key, http=http), stack_database
        )
