"""What report-training hands to a trainer that comes with a ticket, and to nobody else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from devstack.up import Stack
from functions.context import Services
from shared.providers.modal import ModalProvider
from shared.training.spec import ReportReceipt, Ticket, TrainerWork
from tests.fakes.modal import TOKEN_ID, TOKEN_SECRET, FakeModal
from tests.functions.server import functions_over
from tests.functions.world import World, make_world, undisturbed

TRAIN = ("fineflow", "train")


@dataclass
class House:
    world: World
    services: Services
    modal: FakeModal

    async def new_ticket(self) -> Ticket:
        """The ticket of a job that was just started at Modal, where nothing runs."""
        dataset = await self.world.new_dataset(pairs=12)
        answer = await self.world.call(
            "start-training", {"datasetId": dataset, "provider": "modal", "modelName": "door model"}
        )
        assert answer.status_code == 202, answer.text
        (ticket,) = list(self.modal.runs.values())[-1].arguments
        return Ticket.model_validate(ticket)

    async def claim(self, ticket: Ticket, **changes: Any) -> httpx.Response:
        body = {
            "attempt": ticket.attempt,
            "runId": str(ticket.run_id),
            "reports": [{"seq": 1, "kind": "claim"}],
            "wantWork": True,
            "providerJobId": f"fc-of-{ticket.job_id}",
        }
        headers = {"authorization": f"Bearer {ticket.token.get_secret_value()}"}
        return await self.world.http.post(ticket.report_url, json=body | changes, headers=headers)

    async def work(self, ticket: Ticket) -> TrainerWork:
        answer = await self.claim(ticket)
        assert answer.status_code == 200, answer.text
        work = ReportReceipt.model_validate_json(answer.content).work
        assert work
        return work


@pytest.fixture(scope="module")
async def house(stack: Stack) -> AsyncIterator[House]:
    with FakeModal({TRAIN: None}) as modal:
        provider = ModalProvider(
            token_id=SecretStr(TOKEN_ID), token_secret=SecretStr(TOKEN_SECRET), server_url=modal.url
        )
        async with (
            make_world(stack) as made,
            functions_over(stack, {"modal": provider}) as (url, services),
            httpx.AsyncClient(base_url=url, timeout=60) as http,
        ):
            with undisturbed(made):
                yield House(replace(made, http=http), services, modal)
                made.rows(
                    "update training_jobs set status = 'cancelled' where project_id = %s"
                    " and status not in ('completed', 'failed', 'cancelled')",
                    made.project,
                )
        await provider.close()


async def test_the_claim_brings_the_work(house: House) -> None:
    ticket = await house.new_ticket()
    work = await house.work(ticket)
    spec = work.spec
    assert (spec.job_id, spec.attempt, spec.run_id) == (ticket.job_id, 1, ticket.run_id)
    assert (spec.model_name, spec.method) == ("door model", "full")
    assert None not in spec.config.model_dump().values()
    rows = (await house.world.http.get(work.dataset_url)).content
    assert hashlib.sha256(rows).hexdigest() == spec.dataset.sha256
    assert len(rows.splitlines()) == spec.dataset.row_count == 12
    assert json.loads(rows.splitlines()[3])["messages"][-1]["content"] == "Door 3 opens with 21."
    again = await house.work(ticket)
    assert again.spec == spec
    assert (await house.world.http.get(again.dataset_url)).content == rows


async def test_rows_that_are_held_out_come_apart(house: House) -> None:
    ticket = await house.new_ticket()
    dataset = "(select dataset_id from training_jobs where id = %s)"
    house.world.rows(
        "update training_pairs set split = case when ordinal < 2 then 'validation'"
        f" when ordinal < 9 then 'train' else 'test' end where dataset_id = {dataset}",
        UUID(str(ticket.job_id)),
    )
    work = await house.work(ticket)
    assert work.spec.validation
    assert work.validation_url
    for file, url, count in (
        (work.spec.dataset, work.dataset_url, 7),
        (work.spec.validation, work.validation_url, 2),
    ):
        rows = (await house.world.http.get(url)).content
        assert hashlib.sha256(rows).hexdigest() == file.sha256
        assert len(rows.splitlines()) == file.row_count == count


async def test_only_who_has_the_claim_gets_the_work(house: House) -> None:
    ticket = await house.new_ticket()
    await house.work(ticket)
    second = await house.claim(ticket, runId=str(uuid4()))
    assert (second.status_code, second.json()["error"]["code"]) == (409, "claim_lost")
    other_job = await house.new_ticket()
    stolen = other_job.model_copy(update={"token": ticket.token, "attempt": 2})
    assert (await house.claim(stolen)).status_code == 401
    answer = await house.claim(other_job, wantWork=False)
    assert answer.json()["work"] is None


async def test_the_job_is_bound_to_the_call_that_has_the_claim(house: House) -> None:
    """Modal answered the start with one call, and another one got the claim."""
    ticket = await house.new_ticket()
    assert provider_job_id(house, ticket) == list(house.modal.runs)[-1]
    await house.claim(ticket)
    await house.services.jobs.advance(ticket.job_id)
    assert provider_job_id(house, ticket) == f"fc-of-{ticket.job_id}"


def provider_job_id(house: House, ticket: Ticket) -> str:
    ((found,),) = house.world.rows(
        "select provider_job_id from training_jobs where id = %s", str(ticket.job_id)
    )
    return str(found)


async def test_nobody_else_reads_the_training_file(house: House) -> None:
    ticket = await house.new_ticket()
    work = await house.work(ticket)
    path = f"training-files/{ticket.job_id}/{work.spec.dataset.sha256}.jsonl"
    stack = house.world.stack
    for token in (house.world.token, house.world.stranger_token, stack.publishable_key):
        headers = {"apikey": stack.publishable_key, "authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers) as http:
            for address in (f"object/{path}", f"object/authenticated/{path}", f"object/public/{path}"):
                assert (await http.get(f"/storage/v1/{address}")).status_code >= 400
            listed = await http.post(
                "/storage/v1/object/list/training-files", json={"prefix": str(ticket.job_id)}
            )
            assert listed.status_code >= 400 or listed.json() == []
            signed = await http.post(f"/storage/v1/object/sign/{path}", json={"expiresIn": 60})
            assert signed.status_code >= 400
    unsigned = work.dataset_url.partition("?")[0]
    assert (await house.world.http.get(unsigned)).status_code >= 400


async def test_a_dataset_that_became_empty_is_said_to_the_trainer(house: House) -> None:
    ticket = await house.new_ticket()
    dataset = "(select dataset_id from training_jobs where id = %s)"
    house.world.rows(f"delete from training_pairs where dataset_id = {dataset}", UUID(str(ticket.job_id)))
    answer = await house.claim(ticket)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "dataset_empty")
