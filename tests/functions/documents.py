"""Documents of a test world: uploaded as a client does it, and waited for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.functions.world import World

HANDBOOK = (Path(__file__).parents[2] / "examples/handbook.md").read_bytes()


async def upload(
    world: World, name: str, content: bytes, *, mime_type: str = "text/markdown", project: str | None = None
) -> dict[str, Any]:
    """The document's row after it was uploaded, inserted and processed."""
    row = await insert(world, name, content, mime_type=mime_type, project=project)
    return await until(world, "documents", row["id"], "status", {"ready", "failed"})


async def insert(
    world: World, name: str, content: bytes, *, mime_type: str = "text/markdown", project: str | None = None
) -> dict[str, Any]:
    """The row as it was inserted; the event of the row calls process-document."""
    path = f"{project or world.project}/{uuid4()}/{name}"
    stored = await world.http.post(
        f"/storage/v1/object/documents/{path}",
        content=content,
        headers=_headers(world) | {"content-type": mime_type},
    )
    assert stored.status_code == 200, stored.text
    row = {
        "project_id": project or world.project,
        "name": name,
        "storage_path": path,
        "mime_type": mime_type,
        "byte_size": len(content),
    }
    inserted = await world.http.post(
        "/rest/v1/documents", json=row, headers=_headers(world) | {"prefer": "return=representation"}
    )
    assert inserted.status_code == 201, inserted.text
    created: dict[str, Any] = inserted.json()[0]
    return created


async def until(
    world: World, table: str, row_id: str, column: str, values: set[str], *, seconds: float = 60
) -> dict[str, Any]:
    """The row, as the owner sees it, once the column has one of the values."""
    async with asyncio.timeout(seconds):
        while True:
            response = await world.http.get(
                f"/rest/v1/{table}", params={"id": f"eq.{row_id}"}, headers=_headers(world)
            )
            (row,) = response.json()
            if row[column] in values:
                return dict(row)
            await asyncio.sleep(0.1)


def _headers(world: World) -> dict[str, str]:
    return {"apikey": world.stack.publishable_key, "authorization": f"Bearer {world.token}"}
