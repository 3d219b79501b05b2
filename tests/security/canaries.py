"""Keys that must appear nowhere, and the places where they are looked for."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
from psycopg import sql
from websockets.asyncio.client import connect

from tests.functions.world import World

_TABLES = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname in ('public', 'private', 'storage', 'auth')
"""
_PART = 16  # characters of a key that are a leak by themselves; the last four are shown on purpose


def of_a_known_shape() -> str:
    """A key that `shared.log` knows by its shape, with characters that are encoded in addresses."""
    return f"sk-canary-{secrets.token_urlsafe(24)}"


def of_no_shape() -> str:
    """A key that looks like any number, as Together's do, and could be taken for an error's code."""
    return f"ca{secrets.token_hex(31)}"


def with_odd_characters() -> str:
    """A key of which URLs and base64 make something else."""
    return f"canary+{secrets.token_hex(8)}/?=&{secrets.token_hex(8)}="


def forms(key: str) -> set[str]:
    """What betrays the key: itself, parts of it, and both as URLs, headers and dumps spell them."""
    raw = key.encode()
    middle = len(key) // 2 - _PART // 2
    found = {key, quote(key, safe=""), quote(key), raw.hex(), json.dumps(key)[1:-1]}
    found |= {key[:_PART], key[middle : middle + _PART], key[-_PART - 4 : -4]}
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * shift + raw).decode()
            found.add(encoded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6])
    return found


def quoting(key: str) -> str:
    """What a careless vendor says: the key as it is, and as headers and addresses carry it."""
    basic = base64.b64encode(f"api:{key}".encode()).decode()
    return f"Bad key {key} (Bearer {key}; Basic {basic}; ?key={quote(key, safe='')})"


@dataclass
class Searched:
    """What was collected while the keys went through, and what was looked at afterwards."""

    keys: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    looked_at: Counter[str] = field(default_factory=Counter)

    def key(self, value: str) -> str:
        """The same key; from now on it is looked for."""
        self.keys.append(value)
        return value

    async def keep(self, response: httpx.Response) -> None:
        """An event hook: the head and the body of each answer."""
        await response.aread()
        self.bodies.append(f"{response.headers}\n{response.text}")

    def hits(self, world: World) -> list[str]:
        """Where a form of a key was found: kind of place, place, what stands around it."""
        betraying = {form for key in self.keys for form in forms(key)}
        return [
            f"{kind} {place}: ...{text[max(0, text.index(form) - 80) : text.index(form) + 80]}..."
            for kind, place, text in self._places(world)
            for form in betraying
            if form in text
        ]

    def mentions(self, world: World, marker: str) -> set[str]:
        """The kinds of places that hold a text which is no secret: proof that they are looked at."""
        return {kind for kind, _, text in self._places(world) if marker in text}

    def _places(self, world: World) -> Iterator[tuple[str, str, str]]:
        self.looked_at.clear()
        stack = world.stack
        places = [("bodies", "a response", body) for body in self.bodies]
        places += [("frames", "Realtime", frame) for frame in self.frames]
        for kind, directory in (("logs", "logs"), ("files", "storage"), ("files", "runs")):
            places += [(kind, *named) for named in _files(stack.data_dir / directory)]
        places += [("rows", *named) for named in _rows(stack.database_url)]
        for place in places:
            self.looked_at[place[0]] += 1
            yield place

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {kind}" for kind, count in sorted(self.looked_at.items()))
        form_count = sum(len(forms(key)) for key in self.keys)
        return f"canary keys: {len(self.keys)} keys in {form_count} forms; {counted}"


@contextlib.asynccontextmanager
async def realtime(world: World, frames: list[str], *tables: str) -> AsyncIterator[None]:
    """Everything that a subscribed user is sent is kept."""
    stack = world.stack
    address = stack.url.replace("http", "ws", 1)
    url = f"{address}/realtime/v1/websocket?apikey={stack.publishable_key}&vsn=1.0.0"
    async with connect(url, compression=None, close_timeout=1) as socket:
        changes = [{"event": "*", "schema": "public", "table": table} for table in tables]
        payload = {"config": {"postgres_changes": changes}, "access_token": world.token}
        join = {"topic": "realtime:canary", "event": "phx_join", "payload": payload}
        await socket.send(json.dumps(join | {"ref": "1", "join_ref": "1"}))
        while '"system"' not in (frame := str(await asyncio.wait_for(socket.recv(), 10))):
            frames.append(frame)

        async def listen() -> None:
            async for message in socket:
                frames.append(str(message))

        listening = asyncio.create_task(listen())
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _files(directory: Path) -> Iterator[tuple[str, str]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes().decode(errors="replace")


def _rows(database_url: str) -> Iterator[tuple[str, str]]:
    with psycopg.connect(database_url) as database:
        for schema, table in database.execute(_TABLES).fetchall():
            name = f"{schema}.{table}"
            query = sql.SQL("select to_jsonb(t)::text from {} t").format(sql.Identifier(schema, table))
            for (text,) in database.execute(query):
                yield name, text
