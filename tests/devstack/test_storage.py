"""Storage through both official clients, and what protects it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from storage3.exceptions import StorageApiError
from supabase import AsyncClient

from devstack.node_tools import node_binary
from devstack.up import Stack
from tests.devstack.users import PASSWORD, User, client
from tests.supabase_py import supabase_client

SCRIPT = Path(__file__).with_name("storage_by_supabase_js.mjs")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def user(lite: Stack) -> Iterator[User]:
    made = User.new(lite)
    with made.http:
        yield made


@pytest.fixture(scope="module")
async def supabase(lite: Stack, user: User) -> AsyncIterator[AsyncClient]:
    async with supabase_client(lite.url, lite.publishable_key) as made:
        await made.auth.sign_in_with_password({"email": user.email, "password": PASSWORD})
        yield made


async def test_supabase_py_keeps_files(lite: Stack, user: User, supabase: AsyncClient) -> None:
    files = supabase.storage.from_("files")
    here = f"{user.id}/py"
    uploaded = await files.upload(f"{here}/a note.md", b"# one", {"content-type": "text/markdown"})
    assert uploaded.path == f"{here}/a note.md"
    assert await files.download(f"{here}/a note.md") == b"# one"
    with pytest.raises(StorageApiError, match="already exists"):
        await files.upload(f"{here}/a note.md", b"# two")
    await files.upload(f"{here}/a note.md", b"# two", {"upsert": "true"})
    assert await files.download(f"{here}/a note.md") == b"# two"
    assert (await files.info(f"{here}/a note.md"))["name"] == f"{here}/a note.md"
    assert await files.exists(f"{here}/a note.md")

    await files.upload(f"{here}/deep/b.bin", b"\0" * 10)
    listed = await files.list(here)
    assert [(entry["name"], entry["id"] is None) for entry in listed] == [
        ("a note.md", False),
        ("deep", True),
    ]
    assert [entry["name"] for entry in await files.list(here, {"limit": 1, "offset": 1})] == ["deep"]
    assert [entry["name"] for entry in await files.list(here, {"search": "A n"})] == ["a note.md"]

    await files.copy(f"{here}/a note.md", f"{here}/copy.md")
    await files.move(f"{here}/copy.md", f"{here}/moved.md")
    assert await files.download(f"{here}/moved.md") == b"# two"
    assert len(await files.remove([f"{here}/a note.md", f"{here}/moved.md", f"{here}/none"])) == 2
    assert [entry["name"] for entry in await files.list(here)] == ["deep"]


async def test_supabase_py_signs_links(user: User, supabase: AsyncClient) -> None:
    files = supabase.storage.from_("files")
    await files.upload(f"{user.id}/links/a.txt", b"linked", {"content-type": "text/plain"})
    signed = await files.create_signed_url(f"{user.id}/links/a.txt", 60, {"download": "ä.txt"})
    batch = await files.create_signed_urls([f"{user.id}/links/a.txt", f"{user.id}/links/none"], 60)
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.get(signed["signedURL"])
        assert (answer.content, answer.headers["content-type"]) == (b"linked", "text/plain")
        assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''%C3%A4.txt")
        assert (await anybody.get(batch[0]["signedURL"])).content == b"linked"
        assert (await anybody.get(signed["signedURL"].replace("a.txt", "b.txt"))).status_code >= 400
    assert batch[1]["error"]
    upload = await files.create_signed_upload_url(f"{user.id}/links/b.bin")
    await files.upload_to_signed_url(f"{user.id}/links/b.bin", upload["token"], b"by link")
    assert await files.download(f"{user.id}/links/b.bin") == b"by link"


async def test_supabase_js_keeps_files_and_signs_links(lite: Stack, user: User) -> None:
    folder = f"{user.id}/js"
    words = [node_binary(), SCRIPT, lite.url, lite.publishable_key, user.token, folder]
    done = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "blob": "from a blob",
        "buffer": "from a buffer",
        "stream": "from a stream",
        "form": "from a form",
        "contentType": "text/markdown",
        "listed": ["a.md", "b.bin", "c.bin", "d.txt", "deep/"],
        "signed": "from a blob",
        "batch": ["from a blob", None],
        "uploadedByLink": "by link",
    }


async def test_a_stranger_reaches_no_file(lite: Stack, user: User) -> None:
    path = f"/storage/v1/object/files/{user.id}/private.txt"
    assert user.http.post(path, content=b"private").status_code == 200
    stranger = await asyncio.to_thread(User.new, lite)
    with stranger.http as http, client(lite, lite.publishable_key) as anybody, client(lite) as keyless:
        for visitor in (http, anybody, keyless):
            assert visitor.get(path).status_code >= 400
            assert visitor.post(path, content=b"x", headers={"x-upsert": "true"}).status_code >= 400
            assert visitor.get(path.replace("/object/", "/object/public/")).status_code >= 400
            body = {"prefix": user.id}
            assert visitor.post("/storage/v1/object/list/files", json=body).json() == []
            assert visitor.post(path.replace("/object/", "/object/sign/"), json={"expiresIn": 9}).is_error
    assert user.http.get(path).content == b"private"


async def test_uploads_over_the_limit_are_refused_however_they_come(lite: Stack, user: User) -> None:
    path = f"/storage/v1/object/files/{user.id}/big.bin"
    too_much = 101 * MIB

    def chunks() -> Iterator[bytes]:
        for _ in range(101):
            yield b"x" * MIB

    announced = user.http.post(path, headers={"content-length": str(too_much)}, content=chunks())
    streamed = user.http.post(path, content=chunks())
    as_form = user.http.post(path, files={"file": ("big.bin", b"x" * too_much)})
    for response in (announced, streamed, as_form):
        assert response.json()["statusCode"] == "413", response.text
    assert user.http.get(path).status_code >= 400
    assert not [file for file in (lite.data_dir / "storage").rglob("*") if file.stat().st_size > MIB]


async def test_a_broken_upload_replaces_nothing(lite: Stack, user: User) -> None:
    path = f"/storage/v1/object/files/{user.id}/kept.txt"
    assert user.http.post(path, content=b"kept").status_code == 200

    def broken() -> Iterator[bytes]:
        yield b"x" * 1000
        raise OSError("the laptop was closed")

    with pytest.raises(OSError, match="laptop"):
        user.http.put(path, content=broken())
    await asyncio.sleep(0.3)
    assert user.http.get(path).content == b"kept"
