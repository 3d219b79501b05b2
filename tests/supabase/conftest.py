"""A connection to the embedded stack's Postgres; what a test writes is rolled back."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row

from devstack.up import Stack

Connection = psycopg.Connection[dict[str, object]]


@pytest.fixture
def database(stack: Stack) -> Iterator[Connection]:
    with psycopg.connect(stack.database_url, row_factory=dict_row) as connection:
        yield connection
        connection.rollback()
