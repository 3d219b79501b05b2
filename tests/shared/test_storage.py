"""Uploads that break on the way; the real Storage is tested in tests/devstack and tests/functions."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from aiohttp import web

from shared.db import http_client
from shared.errors import PayloadTooLarge, ServiceUnavailable
from shared.storage import Storage
from tests.fakes.http import FakeServer, Fault, Handler

SIZE_BYTES = 20_000_000


class FakeStorage(FakeServer):
    """Keeps the files of forms that arrived whole."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, int] = {}  # path: size in bytes

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        return [("POST", "/storage/v1/object/{path:.*}", "upload", self._upload)]

    async def _upload(self, request: web.Request) -> web.Response:
        size = 0
        async for part in await request.multipart():
            while chunk := await part.read_chunk(65_536):
                size += len(chunk) if part.name == "file" else 0
        path = request.match_info["path"]
        self.files[path] = size
        return web.json_response({"Id": "1", "Key": path})

    def error(self, status: int, message: str) -> dict[str, str]:
        return {"statusCode": str(status), "error": "e", "message": message}


async def upload(fake: FakeStorage, content: bytes | Path) -> None:
    async with http_client() as http:
        storage = Storage(fake.url, api_key="k", bearer="k", http=http)
        await storage.upload("exports", "a/b.jsonl", content, "application/jsonl")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "b.jsonl"
    path.write_bytes(b"x" * SIZE_BYTES)
    return path


@pytest.mark.parametrize("fault", [Fault(reset=True), Fault(reset=True, executed=True), Fault(status=503)])
async def test_an_upload_that_broke_is_sent_again_whole(file: Path, fault: Fault) -> None:
    with FakeStorage() as fake:
        fake.disturb("upload", fault)
        await upload(fake, file)
        assert fake.files == {"exports/a/b.jsonl": SIZE_BYTES}
        assert fake.calls["upload"] == 2


async def test_a_file_is_read_while_it_is_sent(file: Path) -> None:
    with FakeStorage() as fake:
        await upload(fake, b"warm")
        tracemalloc.start()
        await upload(fake, file)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < SIZE_BYTES / 4


async def test_what_storage_refuses_is_not_sent_again(file: Path) -> None:
    with FakeStorage() as fake:
        fake.disturb("upload", Fault(status=413))
        with pytest.raises(PayloadTooLarge):
            await upload(fake, file)
        fake.disturb("upload", *[Fault(status=503)] * 3)
        with pytest.raises(ServiceUnavailable):
            await upload(fake, b"x")
        assert fake.calls["upload"] == 4
