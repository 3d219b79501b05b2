"""Pieces of models in Storage that nobody needs any more go by the schedule; every other one stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from devstack.up import Stack
from shared.db import http_client
from shared.errors import ServiceUnavailable
from shared.models import sweeping
from shared.storage import Storage
from shared.training.model_files import BUCKET
from tests.functions.jobs import TO_TRAINING, move, new_job
from tests.functions.server import functions_over
from tests.functions.world import World, make_world, undisturbed

PIECES = ("a" * 64, "b" * 64, "c" * 64)


class DyingStorage(Storage):
    """Dies after so many of the files that it is to remove; None: it lives."""

    dies_after: int | None = None

    async def remove(self, bucket: str, paths: Sequence[str]) -> None:
        if self.dies_after is None:
            return await super().remove(bucket, paths)
        await super().remove(bucket, paths[: self.dies_after])
        raise ServiceUnavailable("died")


@dataclass
class House:
    world: World
    storage: DyingStorage
    folders: dict[str, str] = field(default_factory=dict)  # by what they are

    async def stores(self, what: str, job: str | None = None, *, attempt: int = 1, days: float = 2) -> str:
        """A folder with pieces, so many days old; its name."""
        folder = f"{self.world.project}/{job or uuid4()}/{attempt}"
        for piece in PIECES:
            await self.storage.upload(BUCKET, f"{folder}/{piece}", b"x", "application/octet-stream")
        self.world.rows(
            "update storage.objects set created_at = now() - make_interval(days => 1) * %s"
            " where bucket_id = 'models' and starts_with(name, %s)",
            days, folder,
        )  # fmt: skip
        self.folders[what] = folder
        return folder

    async def model(self, what: str, *, status: str = "ready", days: float = 2, **columns: Any) -> str:
        """A model in Storage whose row was last touched so many days ago; its id."""
        folder = await self.stores(what)
        names = ["project_id", "name", "provider", "base_model", "method", "artifact_path", *columns]
        values = [
            self.world.project,
            what,
            "rented",
            "fineflow/tiny",
            "full",
            f"storage:{folder}/{PIECES[0]}",
        ]
        given = {**dict(zip(names, values, strict=False)), **columns}
        ((model,),) = self.world.rows(
            f"insert into public.fine_tuned_models ({', '.join(given)})"
            f" values ({', '.join(['%s'] * len(given))}) returning id",
            *given.values(),
        )
        self.world.rows(
            "begin; set local session_replication_role = replica;"  # else a trigger sets updated_at
            f" update public.fine_tuned_models set status = '{status}',"
            f" updated_at = now() - interval '{days} days' where id = '{model}'; commit"
        )
        return str(model)

    def left(self) -> dict[str, int]:
        """How many pieces each folder has that has any."""
        counted = "select count(*) from storage.objects where bucket_id = 'models' and starts_with(name, %s)"
        found = {what: self.world.rows(counted, folder)[0][0] for what, folder in self.folders.items()}
        return {what: count for what, count in found.items() if count}

    async def poll(self, *, due: bool = True) -> None:
        if due:
            self.world.rows("update private.model_sweep set next_at = now()")
        assert (await self.world.call_as_service("poll-training", {})).status_code == 200


@pytest.fixture
async def house(stack: Stack) -> AsyncIterator[House]:
    async with http_client() as to_storage, make_world(stack) as made:
        key = stack.secret_key
        storage = DyingStorage(stack.url, api_key=key, bearer=key, http=to_storage)
        async with (
            functions_over(stack, {}, storage=storage) as (url, _),
            httpx.AsyncClient(base_url=url, timeout=60) as http,
        ):
            with undisturbed(made):
                yield House(replace(made, http=http), storage)
                made.rows(
                    "update training_jobs set status = 'cancelled' where project_id = %s"
                    " and status not in ('completed', 'failed', 'cancelled')",
                    made.project,
                )


async def test_what_somebody_needs_stays_and_all_else_goes(house: House) -> None:
    world = house.world
    await house.model("a model")
    await house.model("deleted today", status="deleted", days=0.5)
    deployed = await house.model("deleted and deployed", status="deleted")
    candidate = await house.model("deleted and a candidate", status="deleted")
    world.rows(
        "insert into public.deployments (project_id, name, model_id, candidate_model_id)"
        " values (%s, 'front', %s, %s)",
        world.project, deployed, candidate,
    )  # fmt: skip
    parent = await house.model("deleted parent of a model", status="deleted")
    await house.model("its child", base_model=f"model:{parent}")
    begun = await house.model("deleted parent of a run", status="deleted")
    job = new_job(world, provider="rented")
    move(world, job, *TO_TRAINING, base_model=f"model:{begun}", attempt=2)
    await house.stores("sent by an attempt before", job, attempt=1)
    await house.stores("being sent", job, attempt=2)
    ended = new_job(world, provider="rented")
    move(world, ended, "failed")
    await house.stores("of a job that failed", ended)
    await house.stores("of a job that failed today", attempt=3, days=0.5)
    await house.stores("of a project that is gone")
    await house.model("deleted", status="deleted")
    childless = await house.model("deleted parent of a deleted one", status="deleted")
    await house.model("deleted child", status="deleted", base_model=f"model:{childless}")
    gone = {
        "sent by an attempt before", "of a job that failed", "of a project that is gone", "deleted",
        "deleted parent of a deleted one", "deleted child",
    }  # fmt: skip
    kept = dict.fromkeys(house.folders.keys() - gone, len(PIECES))
    await house.poll()
    assert house.left() == kept
    await house.poll()
    assert house.left() == kept

    # What held them back is over.
    move(world, job, "cancelled")
    world.rows("delete from public.deployments where project_id = %s", world.project)
    world.rows("update public.fine_tuned_models set status = 'deleted' where name = 'its child'")
    await house.poll()
    assert house.left() == dict.fromkeys(
        ("a model", "deleted today", "its child", "of a job that failed today"), len(PIECES)
    )


async def test_a_sweep_that_dies_half_way_is_finished_by_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.stores("left")
    house.storage.dies_after = 1
    await house.poll()  # which answers: jobs do not wait for it
    assert house.left() == {"left": len(PIECES) - 1}
    house.storage.dies_after = None
    await house.poll(due=False)
    assert house.left() == {"left": len(PIECES) - 1}  # not looked for at every tick
    monkeypatch.setattr(sweeping, "PIECES_AT_ONCE", 1)
    await house.poll()
    assert house.left() == {"left": len(PIECES) - 2}
    await house.poll(due=False)  # at once, where there may be more
    assert house.left() == {}
