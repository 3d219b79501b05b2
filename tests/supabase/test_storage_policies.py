"""Files lie in the folder of their project; who is not in it neither reads nor writes there."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from devstack.up import Stack
from tests.functions.world import World, make_world


@pytest.fixture(scope="module")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


def headers(world: World, token: str | None) -> dict[str, str]:
    key = world.stack.publishable_key
    return {"apikey": key, "authorization": f"Bearer {token or key}", "content-type": "text/markdown"}


async def upload(world: World, token: str | None, path: str) -> httpx.Response:
    return await world.http.post(f"/storage/v1/object/{path}", content=b"# x", headers=headers(world, token))


async def download(world: World, token: str | None, path: str) -> httpx.Response:
    return await world.http.get(f"/storage/v1/object/{path}", headers=headers(world, token))


async def test_members_read_editors_write(world: World) -> None:
    path = f"documents/{world.project}/{uuid4()}/a.md"
    assert (await upload(world, world.viewer_token, path)).status_code >= 400
    assert (await upload(world, world.stranger_token, path)).status_code >= 400
    assert (await upload(world, None, path)).status_code >= 400
    assert (await upload(world, world.token, path)).status_code == 200
    assert (await download(world, world.token, path)).content == b"# x"
    assert (await download(world, world.viewer_token, path)).content == b"# x"
    assert (await download(world, world.stranger_token, path)).status_code >= 400
    assert (await download(world, None, path)).status_code >= 400


async def test_nobody_writes_outside_the_folders_of_his_projects(world: World) -> None:
    for path in (
        f"documents/{uuid4()}/a.md",
        "documents/a.md",
        f"documents/../{world.project}/a.md",
        f"exports/{world.project}/a.jsonl",
        f"elsewhere/{world.project}/a.md",
    ):
        assert (await upload(world, world.token, path)).status_code >= 400, path


async def test_a_stranger_lists_and_signs_nothing(world: World) -> None:
    path = f"{world.project}/{uuid4()}/a.md"
    await upload(world, world.token, f"documents/{path}")
    listing = {"prefix": world.project, "limit": 10}
    for token, count in ((world.token, 1), (world.stranger_token, 0)):
        answer = await world.http.post(
            "/storage/v1/object/list/documents",
            json=listing,
            headers=headers(world, token) | {"content-type": "application/json"},
        )
        assert bool(answer.json()) == bool(count)
    signing = await world.http.post(
        f"/storage/v1/object/sign/documents/{path}",
        json={"expiresIn": 60},
        headers=headers(world, world.stranger_token) | {"content-type": "application/json"},
    )
    assert signing.status_code >= 400
