"""A commit is streamed when it is in the log, a moment before other sessions see its rows."""

import asyncio
from typing import Any


async def test_a_row_that_is_not_visible_yet_is_waited_for(
    realtime: Any, postgres: Any, open_socket: Any, make_token: Any, user: str
) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(user), {"event": "*", "schema": "public", "table": "jobs"})
    with postgres.connect() as db, postgres.connect() as writer:
        # A standby that never answers stretches that moment: the commit is logged, and its session waits.
        db.execute("alter system set synchronous_standby_names = 'nobody'")
        db.execute("select pg_reload_conf()")
        while writer.execute("show synchronous_standby_names").fetchone() != ("nobody",):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)  # the checkpointer tells all sessions, and cannot be asked whether it has
        try:
            insert = asyncio.to_thread(writer.execute, "insert into jobs (owner) values (%s)", [user])
            writing = asyncio.create_task(insert)
            assert await client.hears_nothing(0.5)
            assert not writing.done()
        finally:
            db.execute("alter system reset synchronous_standby_names")
            db.execute("select pg_reload_conf()")
        await writing
        change = await client.change()
        assert (change["type"], change["record"]["owner"]) == ("INSERT", user)
