"""Chunks that say nearly what another chunk of the project says, on the stack's own Postgres."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from devstack.up import Stack
from shared.datasets.duplicates import Texts
from shared.datasets.sketches import sketches
from tests.conftest import Figure
from tests.functions.documents import upload
from tests.functions.world import World, make_world
from tests.shared.datasets.planted import edited, sentence

LEAST = 0.8
SAVE = "select public.save_compared_chunks(%s, %s, 'h', %s, %s::real)"


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


@pytest.fixture
def project(world: World) -> str:
    ((made,),) = world.rows(
        "insert into public.projects (owner_id, name) values (%s, 'p') returning id", world.user
    )
    return str(made)


def claim(world: World, project: str) -> tuple[UUID, UUID]:
    """A document that is being processed, and the lease on it. No file belongs to it."""
    ((document, lease),) = world.rows(
        "insert into public.documents (project_id, name, storage_path, mime_type, byte_size, status,"
        " lease_token, lease_expires_at) values (%s, 'd', %s, 'text/plain', 1, 'processing',"
        " gen_random_uuid(), now() + interval '1 hour') returning id, lease_token",
        project,
        f"{project}/{uuid4()}",
    )
    return document, lease


def chunk_rows(project: str, texts: list[str]) -> str:
    """These chunks as process-document hands them to the database."""
    rows = [
        {
            "ordinal": ordinal,
            "content": text,
            "content_hash": hashlib.sha256(text.casefold().encode()).hexdigest(),
            "char_start": ordinal,
            "char_end": ordinal + 1,
            "heading_path": [],
            "token_count": 50,
            "quality_score": 1,
            "injection_flags": [],
            **asdict(sketch),
        }
        for ordinal, (text, sketch) in enumerate(
            zip(texts, sketches(texts, UUID(project).bytes), strict=True)
        )
    ]
    return json.dumps(rows)


def save(world: World, project: str, texts: list[str], claimed: tuple[UUID, UUID] | None = None) -> UUID:
    """A document of these chunks."""
    document, lease = claimed or claim(world, project)
    assert world.rows(SAVE, document, lease, chunk_rows(project, texts), LEAST) == [(True,)]
    return document


def marks(world: World, document: UUID) -> list[tuple[Any, ...]]:
    """Of each chunk: whether it is a duplicate, of which document and chunk, and how alike."""
    return world.rows(
        "select k.is_duplicate, o.document_id, o.ordinal, round(k.duplicate_similarity::numeric, 2)::float8"
        " from public.chunks k left join public.chunks o on o.id = k.duplicate_of"
        " where k.document_id = %s order by k.ordinal",
        document,
    )


def test_near_duplicates_are_found_and_nothing_else(world: World, project: str, figure: Figure) -> None:
    rng = random.Random(1)
    originals = [sentence(rng, rng.randint(60, 200)) for _ in range(400)]
    texts = [" ".join(words) for words in originals]
    edits = [" ".join(edited(rng, words, rng.randint(1, 12))) for words in originals]
    first, second = save(world, project, texts), save(world, project, edits)
    known = Texts()
    numbers = [known.add(text) for text in texts], [known.add(text) for text in edits]
    wanted = {n for n, pair in enumerate(zip(*numbers, strict=True)) if known.similarity(*pair) >= LEAST}
    found = {
        ordinal
        for ordinal, (is_duplicate, document, of, _) in enumerate(marks(world, second))
        if is_duplicate and (document, of) == (first, ordinal)
    }
    figure(f"near-duplicate chunks: recall {len(found & wanted) / len(wanted):.4f} of {len(wanted)}")
    assert 100 < len(wanted) < 400
    assert found <= wanted
    assert len(found & wanted) >= 0.95 * len(wanted)
    assert {mark[0] for mark in marks(world, first)} == {False}
    for mark, pair in zip(marks(world, second), zip(*numbers, strict=True), strict=True):
        assert mark[3] is None or mark[3] == pytest.approx(known.similarity(*pair), abs=0.01)


def test_within_one_document_the_first_of_its_like_is_kept(world: World, project: str) -> None:
    words = sentence(random.Random(2), 100)
    near = " ".join([*words[:99], "else"])
    document = save(world, project, [" ".join(words), "apart", near, " ".join(words).upper(), "Apart"])
    assert marks(world, document) == [
        (False, None, None, None),
        (False, None, None, None),
        (True, document, 0, 0.98),
        (True, document, 0, 1.0),
        (True, document, 1, 1.0),
    ]


def test_the_next_becomes_the_original_when_the_first_goes(world: World, project: str) -> None:
    rng = random.Random(3)
    words = sentence(rng, 120)
    first = save(world, project, [" ".join(words)])
    second = save(world, project, [" ".join(edited(rng, words, 2))])
    third = save(world, project, [" ".join(words)])
    assert [marks(world, each)[0][1] for each in (second, third)] == [first, first]
    world.rows("delete from public.documents where id = %s", first)
    assert marks(world, second) == [(False, None, None, None)]
    assert marks(world, third)[0][:3] == (True, second, 0)
    assert 0.85 < marks(world, third)[0][3] < 1
    world.rows("delete from public.documents where id = %s", second)
    assert marks(world, third) == [(False, None, None, None)]


def test_a_document_that_is_cut_anew_stays_the_original(world: World, project: str) -> None:
    words = sentence(random.Random(4), 100)
    first = save(world, project, [" ".join(words)])
    second = save(world, project, [" ".join(words)])
    ((lease,),) = world.rows(
        "update public.documents set status = 'processing', lease_token = gen_random_uuid() where id = %s"
        " returning lease_token",
        first,
    )
    save(world, project, ["new beginning", " ".join(words)], (first, lease))
    assert {mark[0] for mark in marks(world, first)} == {False}
    assert marks(world, second)[0][:3] == (True, first, 1)


def test_of_documents_that_come_at_once_the_second_waits_and_sees_the_first(
    world: World, project: str
) -> None:
    text = " ".join(sentence(random.Random(5), 80))
    (first, lease), other = claim(world, project), claim(world, project)
    with psycopg.connect(world.stack.database_url) as database, ThreadPoolExecutor(1) as pool:
        database.execute(SAVE, [first, lease, chunk_rows(project, [text]), LEAST])
        second = pool.submit(save, world, project, [text], other)
        done, _ = wait([second], timeout=0.5)
        assert not done, "it did not wait for the transaction before it"
        database.commit()
        assert marks(world, second.result(timeout=20)) == [(True, first, 0, 1.0)]
    assert marks(world, first) == [(False, None, None, None)]


def test_another_project_is_not_looked_at(world: World, project: str) -> None:
    text = " ".join(sentence(random.Random(6), 80))
    save(world, world.project, [text])
    assert marks(world, save(world, project, [text])) == [(False, None, None, None)]


def test_deleting_a_project_takes_everything_along(world: World, project: str) -> None:
    texts = [" ".join(sentence(random.Random(7), 50)), "b"]
    for _ in range(2):
        save(world, project, texts)
    world.rows("delete from public.projects where id = %s", project)
    for table in ("public.chunks", "private.chunk_sketches"):
        assert world.rows(f"select count(*) from {table} where project_id = %s", project) == [(0,)]


async def test_an_uploaded_document_is_compared(world: World) -> None:
    rng = random.Random(8)
    words = sentence(rng, 90)
    first = await upload(world, "one.md", " ".join(words).encode())
    second = await upload(world, "two.md", " ".join(edited(rng, words, 2)).encode())
    assert (first["status"], second["status"]) == ("ready", "ready")
    ((is_duplicate, document, *_),) = marks(world, UUID(second["id"]))
    assert (is_duplicate, str(document)) == (True, first["id"])
