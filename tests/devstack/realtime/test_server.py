"""Frames on the wire, as both protocol versions see them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

JOBS = {"event": "*", "schema": "public", "table": "jobs"}
NOTES = {"event": "*", "schema": "public", "table": "open_notes"}


async def closing(socket: Any) -> AsyncIterator[str]:
    """What still arrives before the socket closes, however it does."""
    with contextlib.suppress(ConnectionClosed):
        async for frame in socket:
            yield frame


def only(job: str) -> dict[str, str]:
    """Updates, because the insert of the row may still be on its way when a test subscribes."""
    return {**JOBS, "event": "UPDATE", "filter": f"id=eq.{job}"}


def set_step(db: Any, job: str, step: int) -> None:
    db.execute("update jobs set step = %s where id = %s", [step, job])


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
async def test_join_change_heartbeat_leave(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str, version: str
) -> None:
    client = await open_socket(version)
    reply, system = await client.join("realtime:a", make_token(user), only(job))
    assert reply["event"] == "phx_reply"
    assert reply["ref"] == "1"
    assert reply["payload"]["status"] == "ok"
    (echo,) = reply["payload"]["response"]["postgres_changes"]
    assert isinstance(echo.pop("id"), int)
    assert echo == only(job)
    assert system["event"] == "system"
    assert system["ref"] is None
    assert system["payload"] == {
        "extension": "postgres_changes",
        "status": "ok",
        "message": "Subscribed to PostgreSQL",
        "channel": "a",
    }
    set_step(db, job, 7)
    change = await client.change()
    assert change["type"] == "UPDATE"
    assert change["record"]["step"] == 7
    assert change["old_record"] == {"id": job}
    await client.send(None, None, "phoenix", "heartbeat", {})
    assert (await client.receive())["payload"] == {"status": "ok", "response": {}}
    await client.send("1", "9", "realtime:a", "phx_leave", {})
    assert (await client.receive())["payload"]["status"] == "ok"
    closed = await client.receive()
    assert (closed["event"], closed["ref"]) == ("phx_close", "1")
    set_step(db, job, 8)
    assert await client.hears_nothing()


async def test_values_are_typed_as_json(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(user), only(job))
    db.execute(
        "update jobs set loss = 0.123456789012345678901, rate = 'NaN', config = %s, tags = %s, log = %s"
        " where id = %s",
        ['{"a": [1, {"b": "x\\"y"}]}', ["x", 'y, "z"', "\\"], 'é "\\ ,)(\n', job],
    )
    frame = await client.socket.recv()
    assert '"loss":0.123456789012345678901' in frame  # every digit, no float between
    data = json.loads(frame)[4]["data"]
    assert data["record"] | {"loss": None} == {
        "id": job,
        "owner": user,
        "status": "queued",
        "step": 0,
        "loss": None,
        "rate": "NaN",
        "config": {"a": [1, {"b": 'x"y'}]},
        "tags": ["x", 'y, "z"', "\\"],
        "log": 'é "\\ ,)(\n',
        "active": True,
        "updated_at": "2026-01-02T03:04:05.678+00:00",
    }
    types = {column["name"]: column["type"] for column in data["columns"]}
    assert (types["tags"], types["step"], types["status"]) == ("_text", "int4", "job_status")
    assert data["errors"] is None
    assert data["commit_timestamp"].endswith("Z")


async def test_row_level_security(open_socket: Any, make_token: Any, db: Any, user: str, job: str) -> None:
    tokens = {
        "owner": make_token(user),
        "stranger": make_token(str(uuid.uuid4())),
        "service": make_token(user, role="service_role"),
        "anon": None,
    }
    clients = {name: await open_socket() for name in tokens}
    for name, token in tokens.items():
        wanted = JOBS if name == "anon" else only(job)  # a filter needs a readable column
        _, system = await clients[name].join("realtime:a", token, wanted)
        assert system["payload"]["status"] == "ok"
    set_step(db, job, 1)
    owner, service = await clients["owner"].change(), await clients["service"].change()
    assert owner["record"]["step"] == service["record"]["step"] == 1
    assert "secret" not in owner["record"]  # not granted
    assert "secret" not in [column["name"] for column in owner["columns"]]
    assert "secret" in service["record"]
    assert await clients["stranger"].hears_nothing()
    assert await clients["anon"].hears_nothing(0.01)


async def test_secret_key_is_the_service_role(
    open_socket: Any, keys: tuple[str, str], db: Any, job: str
) -> None:
    client = await open_socket(key=keys[1])
    await client.join("realtime:a", keys[1], only(job))  # clients without a session send the key as token
    set_step(db, job, 1)
    assert (await client.change())["record"]["secret"] is None
    weak = await open_socket()
    await weak.join("realtime:a", keys[1], only(job))  # and it is not a way up from another key
    set_step(db, job, 2)
    assert await weak.hears_nothing()


async def test_anon_sees_what_is_granted(open_socket: Any, db: Any) -> None:
    client = await open_socket()
    await client.join("realtime:a", None, {**NOTES, "event": "INSERT"})
    db.execute("insert into open_notes values (1, 'open')")
    assert (await client.change())["record"] == {"id": 1, "body": "open"}
    db.execute("update open_notes set body = 'x'; delete from open_notes")
    assert await client.hears_nothing()


async def test_a_policy_that_fails_hides_the_row_from_its_reader_only(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    bad, good = await open_socket(), await open_socket()
    await bad.join("realtime:a", make_token("no uuid"), only(job))
    await good.join("realtime:a", make_token(user), only(job))
    set_step(db, job, 1)
    assert (await good.change())["record"]["step"] == 1
    assert await bad.hears_nothing()


async def test_delete_tells_the_key_only(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    """As hosted: RLS cannot be asked of a row that is gone, so all who may read the key hear of it."""
    stranger, by_step, anon = await open_socket(), await open_socket(), await open_socket()
    token = make_token(str(uuid.uuid4()))
    await stranger.join("realtime:a", token, JOBS)
    await by_step.join("realtime:a", token, {**JOBS, "filter": "step=gte.0"})
    await anon.join("realtime:a", None, JOBS)
    db.execute("alter table jobs replica identity full")
    db.execute("delete from jobs where id = %s", [job])
    db.execute("alter table jobs replica identity default")
    change = await stranger.change()
    assert (change["type"], change["old_record"]) == ("DELETE", {"id": job})
    assert "record" not in change
    assert (await by_step.change())["old_record"] == {"id": job}
    assert await anon.hears_nothing()
    db.execute("insert into jobs (id, owner) values (%s, %s)", [job, user])
    db.execute("delete from jobs where id = %s", [job])
    assert (await stranger.change())["type"] == "DELETE"
    assert await by_step.hears_nothing()  # a filter on a column that the old row does not tell


async def test_transactions(open_socket: Any, make_token: Any, db: Any, user: str, job: str) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(user), only(job))
    with db.transaction(force_rollback=True):
        set_step(db, job, 1)
    with db.transaction():
        for step in (2, 3, 4):
            set_step(db, job, step)
    assert [(await client.change())["record"]["step"] for _ in range(3)] == [2, 3, 4]


async def test_large_values(open_socket: Any, make_token: Any, db: Any, user: str, job: str) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(user), {**only(job), "select": ["step", "log"]})
    db.execute("alter table jobs alter log set storage external")
    db.execute("update jobs set log = repeat('x', 20000) where id = %s", [job])
    change = await client.change()
    assert set(change["record"]) == {"id", "step", "log"}
    set_step(db, job, 2)
    assert set((await client.change())["record"]) == {"id", "step"}  # unchanged and stored apart
    db.execute("alter table jobs replica identity full")
    set_step(db, job, 3)
    change = await client.change()
    db.execute("alter table jobs replica identity default")
    assert len(change["record"]["log"]) == 20000
    assert change["old_record"]["step"] == 2
    db.execute("update jobs set log = repeat('y', 1100000) where id = %s", [job])
    change = await client.change()
    assert change["errors"] == ["Error 413: Payload Too Large"]
    assert set(change["record"]) == {"id", "step"}


async def test_schema_changes_while_subscribed(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(user), only(job))
    db.execute("alter table jobs add column note text; grant select (note) on jobs to authenticated")
    db.execute("update jobs set note = 'new' where id = %s", [job])
    assert (await client.change())["record"]["note"] == "new"
    db.execute("alter table jobs drop column note")
    set_step(db, job, 1)
    assert "note" not in (await client.change())["record"]
    late = {"event": "*", "schema": "public", "table": "late"}
    _, refused = await client.join("realtime:b", make_token(user), late)
    assert refused["payload"]["status"] == "error"
    db.execute(
        "create table late (id int primary key); grant select on late to authenticated;"
        " alter publication supabase_realtime add table late"
    )
    _, accepted = await client.join("realtime:c", make_token(user), late)
    assert accepted["payload"]["status"] == "ok"
    db.execute("insert into late values (5)")
    assert (await client.change())["record"] == {"id": 5}
    db.execute("drop table late")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({**JOBS, "table": "unpublished"}, "Please check Realtime is enabled"),
        ({**JOBS, "filter": "nope=eq.1"}, "invalid column for filter nope"),
        ({**JOBS, "filter": "secret=eq.1"}, "invalid column for filter secret"),
        ({**JOBS, "filter": "id=eq.xyz"}, "invalid input syntax for type uuid"),
        ({**JOBS, "filter": "id=foo.1"}, "Error parsing `filter` params"),
        ({**JOBS, "filter": "id=like.1*"}, "operator does not exist"),
        ({**JOBS, "select": ["secret"]}, "invalid column for select secret"),
    ],
)
async def test_refused_subscriptions(
    open_socket: Any, make_token: Any, user: str, request_: dict[str, Any], said: str
) -> None:
    client = await open_socket()
    reply, system = await client.join("realtime:a", make_token(user), request_)
    assert reply["payload"]["status"] == "ok"  # as hosted: the join is answered first
    assert (system["event"], system["payload"]["status"]) == ("system", "error")
    assert said in system["payload"]["message"]
    waiting = {"config": {"postgres_changes": [request_], "postgres_changes_options": {"wait": True}}}
    await client.send("2", "2", "realtime:b", "phx_join", {**waiting, "access_token": make_token(user)})
    reply = await client.receive()
    assert reply["payload"]["status"] == "error"
    assert said in reply["payload"]["response"]["reason"]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": None}, "`aud` = authenticated are required"),  # as signed URLs of Storage
        ({"aud": "storage"}, "`aud` = authenticated are required"),
        ({"role": None}, "are required"),
        ({"role": "postgres"}, "unknown role"),
        ({"seconds": -5}, "Token has expired"),
        ({"secret": "x" * 64}, "Failed to validate JWT signature"),
    ],
)
async def test_refused_tokens(
    open_socket: Any, make_token: Any, user: str, claims: dict[str, Any], said: str
) -> None:
    client = await open_socket()
    payload = {"config": {"postgres_changes": [JOBS]}, "access_token": make_token(user, **claims)}
    await client.send("1", "1", "realtime:a", "phx_join", payload)
    reply = await client.receive()
    assert reply["payload"]["status"] == "error"
    assert said in reply["payload"]["response"]["reason"]
    await client.join("realtime:b", make_token(user), JOBS)
    await client.send("1", "2", "realtime:b", "access_token", payload)
    system, closed = await client.receive(), await client.receive()
    assert said in system["payload"]["message"]
    assert system["payload"]["extension"] == "system"
    assert closed["event"] == "phx_close"


async def test_expired_token_closes_the_channel(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(user, seconds=2), only(job))
    system, closed = await client.receive(), await client.receive()
    assert system["payload"]["message"] == "Token has expired"
    assert closed["event"] == "phx_close"
    set_step(db, job, 1)
    assert await client.hears_nothing()


async def test_renewed_token_is_asked_from_then_on(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(str(uuid.uuid4())), only(job))
    set_step(db, job, 1)
    assert await client.hears_nothing(0.2)
    await client.send("1", "2", "realtime:a", "access_token", {"access_token": make_token(user)})
    assert (await client.receive())["payload"]["status"] == "ok"
    set_step(db, job, 2)
    assert (await client.change())["record"]["step"] == 2


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 401),
        ("?apikey=garbage", 401),
        ("?apikey=sb_publishable_test&vsn=3.0.0", 400),
    ],
)
async def test_refused_handshakes(realtime: Any, query: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{realtime.port}/realtime/v1/websocket{query}")
    assert refused.value.response.status_code == status
    assert "error" in json.loads(refused.value.response.body)


async def test_a_user_token_is_no_api_key(realtime: Any, make_token: Any, user: str) -> None:
    with pytest.raises(InvalidStatus):
        await connect(f"ws://127.0.0.1:{realtime.port}/realtime/v1/websocket?apikey={make_token(user)}")


@pytest.mark.parametrize(
    "frame", ["no json", "[1]", '["1","1",7,"phx_join",{}]', '{"topic": "x"}', b"\x09xx"]
)
async def test_malformed_frames_close_the_socket(open_socket: Any, frame: str | bytes) -> None:
    client = await open_socket()
    await client.socket.send(frame)
    with pytest.raises(ConnectionClosed) as closed:
        await client.socket.recv()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1007


async def test_probes_and_strange_requests_make_no_noise(realtime: Any) -> None:
    for request in (b"", b"GET", b"POST /health HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", realtime.port)
        writer.write(request)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
    log = realtime.log.read_text()
    assert "Traceback" not in log
    assert "handshake" not in log


async def test_joins_that_cannot_be(open_socket: Any) -> None:
    client = await open_socket()
    for topic, payload, said in (
        ("jobs", {}, "TopicNameRequired"),
        ("realtime:a", {"config": {"postgres_changes": "all"}}, "InvalidJoin"),
        ("realtime:a", {"config": {"postgres_changes": [{"filter": 5}]}}, "InvalidJoin"),
    ):
        await client.send("1", "1", topic, "phx_join", payload)
        assert said in (await client.receive())["payload"]["response"]["reason"]
    await client.send("1", "1", "realtime:a", "phx_leave", {})
    assert (await client.receive())["payload"]["response"] == {"reason": "unmatched topic"}


async def test_second_join_on_a_topic_closes_the_first(
    open_socket: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    client = await open_socket()
    await client.join("realtime:a", make_token(user), only(job))
    closed, _ = await client.join("realtime:a", make_token(user), only(job))
    assert closed["event"] == "phx_close"
    assert (await client.receive())["event"] == "system"
    set_step(db, job, 1)
    await client.change()
    assert await client.hears_nothing()


async def test_broadcast_and_presence_are_accepted_not_relayed(open_socket: Any, realtime: Any) -> None:
    sender, other = await open_socket(), await open_socket()
    for client in (sender, other):
        _, state = await client.join("realtime:chat", None, presence={"enabled": True})
        assert (state["event"], state["payload"]) == ("presence_state", {})
    texts = (b"1", b"7", b"realtime:chat", b"cursor", b"")
    header = bytes([3, *(len(text) for text in texts), 1])
    await sender.socket.send(header + b"".join(texts) + b'{"x":1}')
    reply = await sender.receive()
    assert (reply["ref"], reply["payload"]["status"]) == ("7", "ok")
    await sender.send("1", "8", "realtime:chat", "presence", {"event": "track"})
    assert (await sender.receive())["payload"]["status"] == "ok"
    assert await other.hears_nothing()
    assert realtime.log.read_text().count("nothing is relayed") == 1


async def test_a_client_that_does_not_read_is_dropped(
    open_socket: Any, realtime: Any, make_token: Any, db: Any, user: str, job: str
) -> None:
    stuck, reading = await open_socket(), await open_socket()
    await stuck.join("realtime:a", make_token(user), only(job))
    await reading.join("realtime:a", make_token(user), only(job))
    stuck.socket.transport.pause_reading()
    for step in range(40):
        db.execute("update jobs set step = %s, log = repeat('x', 500000) where id = %s", [step, job])
        assert (await reading.change())["record"]["step"] == step
    stuck.socket.transport.resume_reading()
    arrived = [frame async for frame in closing(stuck.socket)]
    assert len(arrived) < 40
    assert "a client that does not read is dropped" in realtime.log.read_text()


async def test_many_sockets_and_users(open_socket: Any, make_token: Any, db: Any, user: str) -> None:
    """Each of thirty users hears of exactly the own row."""
    users = [str(uuid.uuid4()) for _ in range(30)]
    clients = [await open_socket() for _ in users]
    for client, one in zip(clients, users, strict=True):
        await client.join("realtime:a", make_token(one), {**JOBS, "event": "INSERT"})
    for one in users:
        db.execute("insert into jobs (owner) values (%s)", [one])
    changes = await asyncio.gather(*(client.change() for client in clients))
    assert [change["record"]["owner"] for change in changes] == users
    assert all(await asyncio.gather(*(client.hears_nothing() for client in clients)))
