"""From a file of 100,000 chat rows to a dataset that is ready, on the whole embedded stack with two cores.

Ours is the wall time from the beginning of the upload until the row of the dataset is ready, by the official
Python client: the file is stored, fetched, read, checked and counted, its pairs are stored, and what
validate-dataset says of them stands on the row. The peer is what a function does that inserts a row at a time
through the same API, without any check; it is measured on fewer rows and scaled by row. The limit is COPY of
the same pairs into the same table, with nothing before and nothing after.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import orjson
import psutil
import psycopg
from supabase import AsyncClient, acreate_client

from devstack.install import TIKTOKEN_DIR
from devstack.ports import free_port
from devstack.up import Stack

ROWS = 100_000
PEER_ROWS = 400
SAMPLE_PAIRS = 2_000
WANTED_SECONDS = 30.0
CORES = 2
POLL_SECONDS = 0.1
CHILDREN = frozenset({"postgres", "front_door", "functions", "realtime"})
ROOT = Path(__file__).parents[1]
SYSTEM = "You answer visitors of a lighthouse, briefly and from the handbook alone."
FOREIGN = (
    "Größe und Höhe über Straßen hinaus.",
    "La tour a été bâtie en 1871, à l'été.",
    "灯塔在岛上。夜里亮着。",
)
COLUMNS = ("dataset_id", "project_id", "ordinal", "messages", "system_message", "user_message",
           "assistant_message", "token_count", "source_name", "source_line")  # fmt: skip


def main() -> None:
    os.environ["TIKTOKEN_CACHE_DIR"] = str(TIKTOKEN_DIR)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    directory = Path(tempfile.mkdtemp(prefix="fineflow-upload-"))
    try:
        asyncio.run(_run(directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _run(directory: Path) -> None:
    file = directory / "chat.jsonl"
    with file.open("wb") as stream:
        stream.writelines(rows(random.Random(1)))
    megabytes, load = file.stat().st_size / 1e6, os.getloadavg()[0]
    print(
        f"{ROWS:,} rows, {megabytes:.1f} MB; load of this machine before: {load:.1f}; {CORES} cores are used"
    )
    async with Stack(directory / "stack", free_port(), children=CHILDREN) as stack:
        ours = await measured(stack, file)
        print(f"ours: {ours.seconds:.1f} s from file to ready ({megabytes / ours.seconds:.1f} MB/s)")
        for stage, seconds in ours.stages.items():
            print(f"  {stage}: {seconds:.1f} s")
        used = ", ".join(f"{name} {seconds:.1f}" for name, seconds in ours.used.items())
        print(f"  processor seconds: {used}")
        print(f"  together {sum(ours.used.values()) / CORES:.1f} s of {CORES} cores that do nothing else")
        equal = sampled(stack, ours.dataset_id)
        print(f"  {equal:,} of {SAMPLE_PAIRS:,} sampled token counts equal tiktoken's")
        alone = ", ".join(f"{name} {seconds:.1f}" for name, seconds in on_its_own(file).items())
        print(f"the reader by itself, in processor seconds: {alone}")
        peer = await one_by_one(stack, file)
        print(f"peer, a row at a time: {peer:,.0f} rows/s, {ROWS / peer:,.0f} s for {ROWS:,} rows")
        limit = copied(stack, ours.dataset_id)
        print(f"limit, COPY of the pairs alone: {limit:,.0f} rows/s, {ROWS / limit:.1f} s")
    rate = ROWS / ours.seconds
    result = {
        "name": "upload",
        "ours": round(rate),
        "peer": round(peer),
        "peer_name": f"an insert a row through the same API, unchecked ({PEER_ROWS} rows, scaled by row)",
        "limit": round(limit),
        "limit_name": "COPY of the finished pairs",
        "unit": "rows per second from file to ready",
        "ratio_to_peer": round(rate / peer, 2),
        "ratio_to_limit": round(rate / limit, 3),
        "seconds": round(ours.seconds, 1),
        "wanted_seconds": WANTED_SECONDS,
        "exact_token_counts": f"{equal} of {SAMPLE_PAIRS}",
        "load_before": round(load, 1),
        "n": 1,
    }
    print(json.dumps(result))


def rows(rng: random.Random) -> Iterator[bytes]:
    """Chats of one or two turns, some 800 bytes each, of sentences of our pages; one in seven is foreign."""
    pages = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]
    text = " ".join(page.read_text() for page in pages)
    sentences = [
        part for part in re.split(r"(?<=[.!?])\s+", text) if 20 < len(part) < 200 and "@" not in part
    ]

    def said(length: int) -> str:
        parts: list[str] = []
        while sum(map(len, parts)) < length:
            parts.append(rng.choice(FOREIGN if rng.random() < 0.14 else sentences))
        return " ".join(parts)

    for number in range(ROWS):
        turns = [{"role": "system", "content": SYSTEM}]
        for _ in range(1 if rng.random() < 0.7 else 2):
            turns.append({"role": "user", "content": f"{said(60)} ({number})"})
            turns.append({"role": "assistant", "content": said(rng.randint(150, 480))})
        yield orjson.dumps({"messages": turns}, option=orjson.OPT_APPEND_NEWLINE)


@dataclass
class Measured:
    """What was seen of one import."""

    dataset_id: UUID
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)  # processor seconds, by child of the stack


async def measured(stack: Stack, file: Path) -> Measured:
    """An import by the demo user, watched until its dataset is ready and validated."""
    client = await acreate_client(stack.url, stack.publishable_key)
    await client.auth.sign_in_with_password({"email": stack.demo_email, "password": stack.demo_password})
    project = (await client.table("projects").select("id").limit(1).execute()).data[0]
    path = f"{cast(dict[str, Any], project)['id']}/benchmark/chat.jsonl"
    before = processor_seconds()
    started = time.monotonic()
    await client.storage.from_("uploads").upload(path, file, {"content-type": "application/jsonl"})
    uploaded = time.monotonic()
    body = {"projectId": path.partition("/")[0], "datasetName": "Benchmark", "files": [{"path": path}]}
    answer = json.loads(await client.functions.invoke("import-dataset", {"body": body}))
    answered = time.monotonic()
    begun = stored = None
    while True:
        row = await _row(client, answer["datasetId"])
        now = time.monotonic()
        begun = begun or (now if row["rows_done"] else None)
        stored = stored or (now if row["files_done"] else None)
        if row["status"] != "generating":
            break
        await asyncio.sleep(POLL_SECONDS)
    assert row["status"] == "ready", row["error"]
    assert row["validation"]["stats"]["totalPairs"] == row["pair_count"] == ROWS
    assert begun is not None
    assert stored is not None
    stages = {
        "upload to Storage": uploaded - started,
        "call, answered": answered - uploaded,
        "fetch, until the first pairs are stored": begun - answered,
        "read, check, count tokens and store": stored - begun,
        "validate": now - stored,
    }
    used = {name: seconds - before[name] for name, seconds in processor_seconds().items()}
    return Measured(UUID(answer["datasetId"]), now - started, stages, used)


def processor_seconds() -> dict[str, float]:
    """What each child of the stack, and this client, has used so far, with all that they started."""
    names = {"postgres": "Postgres", "node": "front door", "functions.entry:app": "functions and reader"}
    used = dict.fromkeys((*names.values(), "client and others"), 0.0)
    here = psutil.Process()
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            line = " ".join([*process.parent().cmdline(), *process.cmdline()]) if process != here else ""
            name = next((names[part] for part in names if part in line), "client and others")
            times = process.cpu_times()
            ended = times.children_user + times.children_system if process != here else 0.0
            used[name] += times.user + times.system + ended
    return used


async def _row(client: AsyncClient, dataset_id: str) -> dict[str, Any]:
    answer = await client.table("training_datasets").select("*").eq("id", dataset_id).execute()
    return cast(dict[str, Any], answer.data[0])


def sampled(stack: Stack, dataset_id: UUID) -> int:
    """How many of the sampled pairs have as many tokens as tiktoken counts in their texts."""
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")
    query = (
        "select messages, system_message, user_message, assistant_message, token_count"
        " from public.training_pairs where dataset_id = %s order by md5(ordinal::text) limit %s"
    )
    equal = 0
    with psycopg.connect(stack.database_url) as database:
        for messages, system, user, assistant, count in database.execute(query, [dataset_id, SAMPLE_PAIRS]):
            texts = [turn["content"] for turn in messages] if messages else [system, user, assistant]
            equal += count == sum(len(encoding.encode_ordinary(text)) for text in texts)
    return equal


def on_its_own(file: Path) -> dict[str, float]:
    """Seconds of processor time of what the reader does to the whole file."""
    from shared.datasets.limits import Limits
    from shared.imports.file import ImportedFile
    from shared.imports.options import ImportOptions
    from shared.tokens import count_tokens

    counting = 0.0
    with file.open() as lines:
        for line in lines:
            texts = [turn["content"] for turn in json.loads(line)["messages"]]
            started = time.process_time()
            for text in texts:
                count_tokens(text)
            counting += time.process_time() - started
    started = time.process_time()
    for _ in ImportedFile(file, ImportOptions(), Limits(), 20, {}).pairs():
        pass
    whole = time.process_time() - started
    return {"counting tokens": counting, "reading, checking and writing rows": whole - counting}


async def one_by_one(stack: Stack, file: Path) -> float:
    """Rows per second of a loop that parses, counts and inserts each row."""
    from shared.tokens import count_tokens

    service = await acreate_client(stack.url, stack.secret_key)
    projects = await service.table("projects").select("id").limit(1).execute()
    project = cast(dict[str, Any], projects.data[0])["id"]
    made = await service.table("training_datasets").insert({"project_id": project, "name": "Peer"}).execute()
    dataset = cast(dict[str, Any], made.data[0])["id"]
    started = time.monotonic()
    with file.open() as lines:
        for number, line in zip(range(PEER_ROWS), lines, strict=False):
            messages = json.loads(line)["messages"]
            row = {
                "dataset_id": dataset,
                "project_id": project,
                "ordinal": number,
                "messages": messages,
                "token_count": sum(count_tokens(message["content"]) for message in messages),
            }
            await service.table("training_pairs").insert(row).execute()
    return PEER_ROWS / (time.monotonic() - started)


def copied(stack: Stack, dataset_id: UUID) -> float:
    """Rows per second of COPY into the same table, from memory."""
    with psycopg.connect(stack.database_url) as database:
        query = f"select {', '.join(COLUMNS)} from public.training_pairs where dataset_id = %s"
        pairs = [
            (*row[:2], row[2], None if row[3] is None else json.dumps(row[3]), *row[4:])
            for row in database.execute(query, [dataset_id])  # type: ignore[arg-type] # names of our own
        ]
        started = time.monotonic()
        with (
            database.cursor() as cursor,
            cursor.copy(
                f"copy public.training_pairs ({', '.join(COLUMNS)}) from stdin"  # type: ignore[arg-type] # as above
            ) as copy,
        ):
            for pair in pairs:
                copy.write_row(pair)
        database.commit()
        return len(pairs) / (time.monotonic() - started)


if __name__ == "__main__":
    main()
