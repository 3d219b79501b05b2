"""A model that obeys every document, behind the whole pipeline: what does it get into stored pairs?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from devstack.up import Stack
from shared.db import Database, Row
from shared.generation.answers import KeptAnswers
from shared.generation.language_model import LanguageModelGenerator
from shared.generation.leaks import gives_away
from shared.generation.source import Generator
from shared.generation.work import work_on_dataset
from shared.llm.openai_compatible import OpenAICompatible
from shared.llm.pace import Paced
from tests.conftest import Figure
from tests.fakes.openai_compatible import FakeChatService
from tests.functions.documents import upload
from tests.functions.generation import end_leases, new_dataset
from tests.functions.generation import service as service_database
from tests.functions.obedient import ACTS, PAYLOAD, Prompt, cases, document, obey
from tests.functions.world import World, make_world, undisturbed
from tests.shared.documents.injection_corpus import ATTACKS
from tests.shared.documents.test_injection_corpus import BY_HAND

KNOWN = [attack.split("\n\n")[1] for attack in ATTACKS[::8]] + BY_HAND["development"]["attacks"]
UNSEEN = BY_HAND["held_out"]["attacks"]


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        with undisturbed(made):  # the schedule would work on the datasets too
            yield made


def opener(db: Database, dataset: Row, service: FakeChatService) -> Callable[[], Awaitable[Generator]]:
    async def opened() -> Generator:
        client = OpenAICompatible(service.base_url, "obedient", SecretStr(service.api_key))
        return LanguageModelGenerator(KeptAnswers(Paced(client), client, db, dataset), "qa", None)

    return opened


async def made_by(
    world: World, content: bytes, service: FakeChatService, *, despite_flags: bool
) -> list[dict[str, Any]]:
    """Every pair that is stored of the document, with the place of its chunk.

    despite_flags: as if no rule had seen anything in it.
    """
    document = await upload(world, f"{uuid4().hex}.md", content)
    if despite_flags:
        world.rows("update public.chunks set injection_flags = '{}' where document_id = %s", document["id"])
    async with service_database(world) as db:
        dataset = await new_dataset(db, world, document=document["name"], chunks=1000)
        # An answer that nobody understands is asked for again, a few times and after a while.
        while (row := await work_on_dataset(db, dataset, opener(db, dataset, service)))["status"] != "ready":
            assert row["status"] == "generating", row["error"]
            end_leases(world, dataset["id"])
    found = world.rows(
        "select to_jsonb(p) || jsonb_build_object('chunk_start', k.char_start, 'chunk_end', k.char_end,"
        " 'chunk_ordinal', k.ordinal) from public.training_pairs p"
        " join public.chunks k on k.id = p.chunk_id where p.dataset_id = %s",
        dataset["id"],
    )
    return [pair for (pair,) in found]


def marks_of(service: FakeChatService) -> list[str]:
    """Every mark that any prompt held."""
    prompts = [Prompt(*(message["content"] for message in body["messages"][:2])) for body in service.bodies]
    return [mark for prompt in prompts for mark in (prompt.canary, prompt.fence)]


def said_in(pair: dict[str, Any]) -> str:
    kept = ("messages", "system_message", "user_message", "assistant_message", "issue_details", "metadata")
    return json.dumps([pair[column] for column in kept], ensure_ascii=False)


async def test_a_model_that_obeys_gets_nothing_into_stored_pairs(world: World, figure: Figure) -> None:
    behaviours = cases()
    content = document([f"This is case {number} of the collection." for number in range(len(behaviours))])
    with FakeChatService(reply=obey(list(behaviours.values()))) as service:
        pairs = await made_by(world, content, service, despite_flags=True)
    marks = marks_of(service)
    through = {
        list(behaviours)[pair["chunk_ordinal"]]
        for pair in pairs
        if gives_away([said_in(pair)], marks, "") or "EVIL" in said_in(pair)
        or any(act.strip() in said_in(pair) for act in ACTS)
    }  # fmt: skip
    reached = {body["messages"][1]["content"] for body in service.bodies}
    figure(f"attack suite, obeyed: {len(behaviours)} attacks, {len(behaviours) - len(through)} blocked")
    assert len(reached) >= len(behaviours), "every case reaches the model"
    assert through == set()
    for pair in pairs:
        assert pair["chunk_start"] <= pair["char_start"] < pair["char_end"] <= pair["chunk_end"]
        assert pair["ordinal"] < 3
    honest = {pair["chunk_ordinal"] for pair in pairs if pair["is_valid"]}
    assert len(honest) >= 5, "what is harmless in an answer is kept"


async def test_injected_documents_reach_neither_the_model_nor_the_pairs(world: World, figure: Figure) -> None:
    injected = [*KNOWN, *UNSEEN]
    sections = [f"{text}\nThe code is ZQ-{1000 + place}." for place, text in enumerate(injected)]
    with FakeChatService(reply=obey([])) as service:
        pairs = await made_by(world, document(sections), service, despite_flags=False)
    seen = {found for body in service.bodies for found in PAYLOAD.findall(body["messages"][1]["content"])}
    stored = {found for pair in pairs for found in PAYLOAD.findall(said_in(pair))}
    unseen = {f"ZQ-{1000 + place}" for place in range(len(KNOWN), len(injected))}
    figure(
        f"attack suite, injected: {len(injected)} attacks, {len(seen)} reached the model"
        f" ({len(seen & unseen)} of the {len(UNSEEN)} held-out ones), {len(stored)} have their code in a pair"
    )
    # What no rule sees is a sentence of the document like any other; all else is neither shown nor stored.
    assert stored <= seen
    assert len(seen) <= 0.1 * len(injected)
    assert not any(gives_away([said_in(pair)], marks_of(service), "") for pair in pairs)
    assert len(pairs) >= 0.5 * len(injected), "the rest of a flagged chunk is still of use"
