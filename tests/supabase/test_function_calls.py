"""Rows and the clock call functions: by NOTIFY here, by pg_net where that is installed."""

import json

import psycopg
import pytest

Connection = psycopg.Connection[dict[str, object]]

# What hosted Supabase has, as far as our SQL touches it. Undone with the transaction.
HOSTED = """
set local allow_system_table_mods = on;
insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
  values (999999, 'pg_net', 10, 'public'::regnamespace, false, '0');
create schema net;
create table net.posted (url text, body jsonb, headers jsonb);
create function net.http_post(url text, body jsonb, headers jsonb, timeout_milliseconds integer)
  returns bigint language sql as $$ insert into net.posted values (url, body, headers) returning 1 $$;
"""
VAULT = """
create schema vault;
create table vault.decrypted_secrets (name text, decrypted_secret text);
insert into vault.decrypted_secrets values
  ('fineflow_functions_url', 'https://project.example/functions/v1'), ('fineflow_function_secret', 's3cret');
"""


def test_without_pg_net_listeners_are_told(database: Connection) -> None:
    with psycopg.connect(database.info.dsn, password=database.info.password, autocommit=True) as listener:
        listener.execute("listen function_calls")
        database.execute("select private.call_function('export-dataset', '{\"datasetId\": 1}')")
        database.commit()
        (notice,) = listener.notifies(timeout=5, stop_after=1)
    assert json.loads(notice.payload) == {"name": "export-dataset", "body": {"datasetId": 1}}


def test_with_pg_net_the_function_is_posted_to(database: Connection) -> None:
    database.execute(HOSTED)
    database.execute(VAULT)
    database.execute("select private.run_schedule('poll-training')")
    assert database.execute("select * from net.posted").fetchall() == [
        {
            "url": "https://project.example/functions/v1/poll-training",
            "body": {},
            "headers": {"content-type": "application/json", "x-fineflow-secret": "s3cret"},
        }
    ]


@pytest.mark.parametrize("vault", ["", VAULT + "delete from vault.decrypted_secrets;"], ids=["none", "empty"])
def test_without_an_address_the_row_is_stored_all_the_same(database: Connection, vault: str) -> None:
    database.execute(HOSTED + vault)
    notices: list[str] = []
    database.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
    database.execute("set local client_min_messages = warning")
    stored = database.execute(
        "insert into public.documents (project_id, name, storage_path, mime_type, byte_size)"
        " values ('00000000-0000-4000-8000-000000000003', 'a.md',"
        " '00000000-0000-4000-8000-000000000003/' || gen_random_uuid(), 'text/markdown', 1) returning id"
    )
    assert stored.fetchone()
    assert any("set fineflow_functions_url" in notice for notice in notices)
    assert database.execute("select * from net.posted").fetchall() == []
